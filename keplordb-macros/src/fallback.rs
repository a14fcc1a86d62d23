//! Stands in for the code of a table with a mistake: the same names, so that the mistake is the one message shown.
//!
//! Nothing of it ever runs, since the mistake stops the build. Setters therefore take anything, conversions give what
//! the caller expects, and all bodies are `unreachable!()`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, Ident, parse_quote};

use crate::ast::{Column, Table};
use crate::attr::Role;
use crate::{builtin, valid};

/// The message of `error` and a stand-in for what `table` would have generated.
pub(crate) fn expand(table: &Table<'_>, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    let (vis, ident) = (&table.input.vis, &table.input.ident);
    let (krate, builder, filter) = (table.krate(), table.builder(), table.filter());
    let (row, view) = (table.row(), table.view());
    let (impl_generics, ty_generics, where_clause) = table.input.generics.split_for_impl();
    let ty = quote!(#ident #ty_generics);
    let mut schema_generics = table.input.generics.clone();
    if !schema_generics.params.is_empty() {
        // What the trait asks of a schema, said of one whose parameters are not known to allow it.
        let bound = parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static);
        schema_generics.make_where_clause().predicates.push(bound);
    }
    let schema_where = &schema_generics.where_clause;
    let text = quote!(&::core::primitive::str);
    let getters_of_row = getters(table, &text, &text);
    let borrowed_row = borrowed_row(table);
    let columns = table.columns.iter().filter(|column| builtin::reserved(&column.name).is_none());
    let columns: Vec<_> = columns.map(Column::method).collect();
    let built_ins: Vec<_> =
        builtin::NUMBERS.iter().map(builtin::Number::ident).chain([format_ident!("id")]).collect();
    let from_row = conversion(&quote!(#impl_generics), &row, &ty, &quote!(#where_clause));
    let into_filter = quote!(#krate::Filter<#ty>);
    let from_filter = conversion(&quote!(#impl_generics), &filter, &into_filter, &quote!(#where_clause));
    let tokens = tokens(table);
    let size = quote!(::core::primitive::usize);
    let shape = quote!(<const DIMS: #size, const COUNTERS: #size, const LABELS: #size>);
    let from_builder =
        conversion(&shape, &builder, &quote!(#krate::LogEvent<DIMS, COUNTERS, LABELS>), &TokenStream::new());
    quote! {
        #error

        #[allow(dead_code)]
        impl #impl_generics #ty #where_clause {
            #vis fn new(_: ::core::primitive::i64) -> #builder { ::core::unreachable!() }
            #vis fn at(self, _: ::core::primitive::i64) -> #builder { ::core::unreachable!() }
            #vis fn filter() -> #filter { ::core::unreachable!() }
            #vis fn default_config(_: ::std::path::PathBuf) -> #krate::EngineConfig { ::core::unreachable!() }
        }

        #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq)]
        #[doc(hidden)]
        #vis struct #builder;

        #[allow(dead_code)]
        impl #builder {
            #(#vis fn #columns<T>(self, _: T) -> Self { ::core::unreachable!() })*
            #(#vis fn #built_ins<T>(self, _: T) -> Self { ::core::unreachable!() })*
            #vis fn into_log_event #shape(self) -> #krate::LogEvent<DIMS, COUNTERS, LABELS> { ::core::unreachable!() }
        }

        #from_builder

        #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::default::Default)]
        #[doc(hidden)]
        #vis struct #filter;

        #[allow(dead_code)]
        impl #filter {
            #(#vis fn #columns<T>(self, _: T) -> Self { ::core::unreachable!() })*
            #vis fn from<T>(self, _: T) -> Self { ::core::unreachable!() }
            #vis fn to<T>(self, _: T) -> Self { ::core::unreachable!() }
            #vis fn status<T>(self, _: T) -> Self { ::core::unreachable!() }
            #vis fn cursor<T>(self, _: T) -> Self { ::core::unreachable!() }
            #vis fn into_filter<const DIMS: #size>(self) -> #krate::QueryFilter<DIMS> {
                ::core::unreachable!()
            }
        }

        #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq)]
        #[doc(hidden)]
        #vis struct #row;

        #[allow(dead_code)]
        impl #row {
            #getters_of_row
            #vis fn sequence(&self) -> ::core::primitive::u64 { ::core::unreachable!() }
            #vis fn into_event #impl_generics(self) -> #ty #where_clause { ::core::unreachable!() }
            #vis fn into_event_ref #shape(self) -> #krate::EventRef<DIMS, COUNTERS, LABELS> { ::core::unreachable!() }
        }

        #borrowed_row
        #from_row
        #from_filter
        #tokens

        #[automatically_derived]
        impl #impl_generics #krate::Schema for #ty #schema_where {
            type Builder = #builder;
            type Filter = #filter;
            type Row = #row;
            type View<'__row> = #view<'__row>;
            type Totals = #krate::Totals<0>;
            type RollupValue = #krate::RollupValue<0>;
            fn table_schema() -> #krate::TableSchema { ::core::unreachable!() }
            fn default_config(_: ::std::path::PathBuf) -> #krate::EngineConfig { ::core::unreachable!() }
            fn row_of(_: &#builder) -> #krate::RowRef<'_> { ::core::unreachable!() }
            fn id_of(_: &mut #builder) -> &mut ::std::string::String { ::core::unreachable!() }
            fn read_row(_: &#krate::RowView<'_>) -> ::core::result::Result<#row, #krate::DbError> {
                ::core::unreachable!()
            }
            fn view_of<'__row>(_: &#krate::RowView<'__row>) -> #view<'__row> { ::core::unreachable!() }
        }
    }
}

/// The row that is not copied.
fn borrowed_row(table: &Table<'_>) -> TokenStream {
    let (vis, krate, row, view) = (&table.input.vis, table.krate(), table.row(), table.view());
    let decoded = quote!(::std::borrow::Cow<'a, ::core::primitive::str>);
    let decoded = quote!(::core::result::Result<#decoded, #krate::DbError>);
    let getters_of_view = getters(table, &quote!(&'a ::core::primitive::str), &decoded);
    quote! {
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #[doc(hidden)]
        #vis struct #view<'a>(::core::marker::PhantomData<&'a ()>);

        #[allow(dead_code)]
        impl<'a> #view<'a> {
            #getters_of_view
            #vis fn sequence(&self) -> ::core::primitive::u64 { ::core::unreachable!() }
            #vis fn into_row(self) -> ::core::result::Result<#row, #krate::DbError> { ::core::unreachable!() }
        }
    }
}

/// The column tokens; none for a struct with parameters, which is a mistake by itself.
fn tokens(table: &Table<'_>) -> TokenStream {
    if !table.input.generics.params.is_empty() {
        return TokenStream::new();
    }
    let (vis, ident, krate, cols) = (&table.input.vis, &table.input.ident, table.krate(), table.cols());
    let built_in = builtin::tokens(&krate, ident).into_iter().map(|(name, ty, ..)| (name, ty));
    let columns = table.columns.iter().filter(|column| builtin::reserved(&column.name).is_none());
    let columns = columns.map(|column| {
        let ty = match column.role() {
            Some(Role::Label) => quote!(Text<#ident>),
            _ if is_number(column) => quote!(Number<#ident, ::core::primitive::u32>),
            _ => quote!(Dim<#ident>),
        };
        (column.method(), quote!(#krate::columns::#ty))
    });
    let fields = columns.chain(built_in).map(|(name, ty)| quote!(#vis #name: #ty));
    quote! {
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #[doc(hidden)]
        #[allow(dead_code)]
        #vis struct #cols { #(#fields,)* }

        #[allow(dead_code)]
        impl #ident {
            #vis fn cols() -> #cols { ::core::unreachable!() }
        }
    }
}

/// Getters of the built-ins, and of each column the type that it will have when the mistake is mended; `dim` is that of
/// dims, `text` that of the id and of labels.
fn getters(table: &Table<'_>, dim: &TokenStream, text: &TokenStream) -> TokenStream {
    let (vis, krate) = (&table.input.vis, table.krate());
    let numbers = builtin::NUMBERS.iter().map(|number| (number.ident(), number.ty(&krate)));
    let columns = table.columns.iter().filter(|column| builtin::reserved(&column.name).is_none());
    let columns = columns.map(|column| {
        let ty = match column.role() {
            Some(Role::Label) => text.clone(),
            _ if is_number(column) => quote!(::core::primitive::u32),
            _ => dim.clone(),
        };
        (column.method(), ty)
    });
    let getters = numbers.chain([(format_ident!("id"), text.clone())]).chain(columns);
    let getters = getters.map(|(name, ty)| quote!(#vis fn #name(&self) -> #ty { ::core::unreachable!() }));
    quote!(#(#getters)*)
}

/// By its role; by its type if it lacks one.
fn is_number(column: &Column<'_>) -> bool {
    column.role().map_or_else(|| valid::is_u32(&column.field.ty), |role| role == Role::Counter)
}

fn conversion(generics: &TokenStream, from: &Ident, to: &TokenStream, bounds: &TokenStream) -> TokenStream {
    quote! {
        #[automatically_derived]
        impl #generics ::core::convert::From<#from> for #to #bounds {
            fn from(_: #from) -> Self { ::core::unreachable!() }
        }
    }
}
