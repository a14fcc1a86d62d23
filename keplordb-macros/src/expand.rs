//! Writes the code of a valid table: functions of the struct, builder, filter, row, and the `Schema` that ties them.
//!
//! The builder wraps `LogEvent`, the row `EventRow`: a setter or getter is an array access at an index known here.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{DeriveInput, Path, Visibility};

use crate::ast::{Column, Table};
use crate::attr::Role;
use crate::builtin;
use crate::errors::Errors;
use crate::{fallback, valid};

mod rows;

/// Everything that `#[derive(Schema)]` puts beside `input`; after a mistake, its message and a stand-in.
pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let table = Table::read(input, &mut errors);
    valid::check(&table, &mut errors);
    match errors.into_error() {
        None => Expansion::new(&table).all(),
        Some(error) => fallback::expand(&table, &error),
    }
}

/// A column in its role's array.
struct Slot<'a> {
    column: &'a Column<'a>,
    role: Role,
    /// Its place among those of its role.
    index: usize,
    /// Its place in an event, as `dims[0]`.
    place: TokenStream,
}

/// A valid table and the names that its code is made of.
struct Expansion<'a> {
    table: &'a Table<'a>,
    vis: &'a Visibility,
    ident: &'a Ident,
    krate: Path,
    builder: Ident,
    filter: Ident,
    row: Ident,
    view: Ident,
    cols: Ident,
    dims: Vec<&'a Column<'a>>,
    counters: Vec<&'a Column<'a>>,
    labels: Vec<&'a Column<'a>>,
    /// `<D, C, L>` of `LogEvent` and `EventRow`.
    shape: TokenStream,
}

impl<'a> Expansion<'a> {
    fn new(table: &'a Table<'a>) -> Self {
        let (dims, counters, labels) =
            (table.of_role(Role::Dim), table.of_role(Role::Counter), table.of_role(Role::Label));
        let (d, c, l) = (dims.len(), counters.len(), labels.len());
        Self {
            table,
            vis: &table.input.vis,
            ident: &table.input.ident,
            krate: table.krate(),
            builder: table.builder(),
            filter: table.filter(),
            row: table.row(),
            view: table.view(),
            cols: table.cols(),
            dims,
            counters,
            labels,
            shape: quote!(<#d, #c, #l>),
        }
    }

    fn all(&self) -> TokenStream {
        let parts = [
            self.functions(),
            self.builder(),
            self.filter(),
            self.columns(),
            self.row(),
            self.view(),
            self.schema(),
        ];
        quote!(#(#parts)*)
    }

    /// The struct's own functions: the ways in.
    fn functions(&self) -> TokenStream {
        let Self { vis, ident, krate, builder, filter, cols, .. } = self;
        let [dims, counters, labels] = [&self.dims, &self.counters, &self.labels]
            .map(|columns| columns.iter().map(|column| column.ident).collect::<Vec<_>>());
        let new_doc = format!("Begins an event of `{ident}` at `ts_ns`, all else empty or 0.");
        let at_doc = format!("Begins an event with the values of this `{ident}` at `ts_ns`.");
        let filter_doc = format!("Begins a filter that matches every event of `{ident}`.");
        let cols_doc = format!("The columns of `{ident}`, to make conditions, groups and sums of.");
        let config_doc = format!("The configuration of a raw engine for `{ident}` in `data_dir`.");
        quote! {
            impl #ident {
                #[doc = #new_doc]
                #[doc = ""]
                #[doc = "`ts_ns` is in nanoseconds since the Unix epoch."]
                #vis fn new(ts_ns: ::core::primitive::i64) -> #builder {
                    #builder { event: #krate::LogEvent { ts_ns, ..::core::default::Default::default() } }
                }

                #[doc = #at_doc]
                #[doc = ""]
                #[doc = "`ts_ns` is in nanoseconds since the Unix epoch."]
                #[allow(dead_code, reason = "fields count as read, also where events are only built by `new`")]
                #vis fn at(self, ts_ns: ::core::primitive::i64) -> #builder {
                    #builder {
                        event: #krate::LogEvent {
                            ts_ns,
                            dims: [#(self.#dims),*],
                            counters: [#(self.#counters),*],
                            labels: [#(self.#labels),*],
                            ..::core::default::Default::default()
                        },
                    }
                }

                #[doc = #filter_doc]
                #vis fn filter() -> #filter {
                    <#filter as ::core::default::Default>::default()
                }

                #[doc = #cols_doc]
                #[must_use]
                #vis const fn cols() -> #cols {
                    #cols::ALL
                }

                #[doc = #config_doc]
                #[must_use]
                #vis fn default_config(data_dir: ::std::path::PathBuf) -> #krate::EngineConfig {
                    <Self as #krate::Schema>::default_config(data_dir)
                }
            }
        }
    }

    fn builder(&self) -> TokenStream {
        let Self { vis, ident, krate, builder, shape, .. } = self;
        let columns = self.slots().map(|slot| {
            let Slot { column, role, place, .. } = slot;
            let (method, doc) = (column.method(), format!("Sets the {} `{}`.", role.name(), column.name));
            match role {
                Role::Counter => setter(vis, &method, &quote!(::core::primitive::u32), &place, &doc),
                Role::Dim | Role::Label => text_setter(vis, &method, &place, &doc),
            }
        });
        let id = text_setter(
            vis,
            &format_ident!("id"),
            &quote!(id),
            "Sets the id, by which the event can be looked up. A `Store` makes one where none is set.",
        );
        let numbers = builtin::NUMBERS.iter().map(|number| {
            let name = number.ident();
            setter(vis, &name, &number.ty(krate), &name, &format!("Sets {}.", number.what))
        });
        let doc = format!("An event of [`{ident}`] to append; setters can be chained.");
        let allow = allow_any_name();
        quote! {
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::cmp::PartialEq)]
            #[must_use = "an event is stored only once it is appended"]
            #vis struct #builder {
                event: #krate::LogEvent #shape,
            }

            #allow
            impl #builder {
                #(#columns)*
                #id
                #(#numbers)*

                /// The event as a raw engine takes it.
                #[must_use]
                #vis fn into_log_event(self) -> #krate::LogEvent #shape {
                    self.event
                }
            }

            #[automatically_derived]
            impl ::core::convert::From<#builder> for #krate::LogEvent #shape {
                fn from(builder: #builder) -> Self {
                    builder.event
                }
            }
        }
    }

    fn filter(&self) -> TokenStream {
        let Self { vis, ident, krate, filter, .. } = self;
        let d = self.dims.len();
        let dims = self.dims.iter().enumerate().map(|(index, column)| {
            let (method, doc) =
                (column.method(), format!("Only events whose dim `{}` is exactly `value`.", column.name));
            quote! {
                #[doc = #doc]
                #vis fn #method(mut self, value: impl ::core::convert::Into<::std::string::String>) -> Self {
                    self.filter.dims[#index] = ::core::option::Option::Some(::core::convert::Into::into(value));
                    self
                }
            }
        });
        let doc = format!("Which events of [`{ident}`] a query looks at: every condition set must hold.");
        let allow = allow_any_name();
        quote! {
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug, ::core::default::Default)]
            #[must_use = "a filter does nothing until a query takes it"]
            #vis struct #filter {
                filter: #krate::QueryFilter<#d>,
            }

            #allow
            impl #filter {
                #(#dims)*

                /// Only events at or after `ts_ns`, in nanoseconds since the Unix epoch.
                #vis fn from(mut self, ts_ns: ::core::primitive::i64) -> Self {
                    self.filter.from_ts_ns = ::core::option::Option::Some(ts_ns);
                    self
                }

                /// Only events at or before `ts_ns`, in nanoseconds since the Unix epoch.
                #vis fn to(mut self, ts_ns: ::core::primitive::i64) -> Self {
                    self.filter.to_ts_ns = ::core::option::Option::Some(ts_ns);
                    self
                }

                /// Only events whose status lies in `range`; its end is exclusive.
                #vis fn status(mut self, range: ::core::ops::Range<::core::primitive::u16>) -> Self {
                    self.filter.status_min = ::core::option::Option::Some(range.start);
                    self.filter.status_max = ::core::option::Option::Some(range.end);
                    self
                }

                /// Only events strictly before `cursor`: the next page of a query from new to old.
                #vis fn cursor(mut self, cursor: #krate::Cursor) -> Self {
                    self.filter.cursor = ::core::option::Option::Some(cursor);
                    self
                }

                /// The filter as a raw engine takes it.
                #[must_use]
                #vis fn into_filter(self) -> #krate::QueryFilter<#d> {
                    self.filter
                }
            }

            #[automatically_derived]
            impl ::core::convert::From<&#filter> for #krate::Filter<#ident> {
                fn from(filter: &#filter) -> Self {
                    Self::of_plain(filter.filter.as_ref_filter())
                }
            }

            #[automatically_derived]
            impl ::core::convert::From<#filter> for #krate::Filter<#ident> {
                fn from(filter: #filter) -> Self {
                    Self::from(&filter)
                }
            }
        }
    }

    /// The tokens of all columns.
    fn columns(&self) -> TokenStream {
        let Self { vis, ident, krate, cols, .. } = self;
        let own = self.slots().map(|slot| {
            let Slot { column, role, index, .. } = slot;
            let (field, doc) = (column.method(), format!("The {} `{}`.", role.name(), column.name));
            let (ty, token) = match role {
                Role::Dim => (quote!(Dim<#ident>), quote!(Dim::at(#index))),
                Role::Counter => {
                    (quote!(Number<#ident, ::core::primitive::u32>), quote!(Number::counter(#index)))
                }
                Role::Label => (quote!(Text<#ident>), quote!(Text::label(#index))),
            };
            (quote!(#[doc = #doc] #vis #field: #krate::columns::#ty), quote!(#field: #krate::columns::#token))
        });
        let built_in = builtin::tokens(krate, ident).into_iter().map(|(name, ty, token, what)| {
            let doc = format!("Stands for {what}.");
            (quote!(#[doc = #doc] #vis #name: #ty), quote!(#name: #token))
        });
        let (fields, tokens): (Vec<_>, Vec<_>) = own.chain(built_in).unzip();
        let doc = format!("The columns of [`{ident}`]: one token each, to be had by `{ident}::cols()`.");
        quote! {
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
            #[allow(dead_code, reason = "a program need not ask for every column")]
            #vis struct #cols {
                #(#fields,)*
            }

            impl #cols {
                const ALL: Self = Self { #(#tokens,)* };
            }
        }
    }

    fn schema(&self) -> TokenStream {
        let Self { ident, krate, builder, filter, row, view, .. } = self;
        let id = &self.table.attrs.id;
        let dims = self.dims.iter().map(|column| &column.name);
        let counters = self.counters.iter().map(|column| &column.name);
        let labels = self.labels.iter().map(|column| {
            let name = &column.name;
            if column.has("index") { quote!(.indexed_label(#name)) } else { quote!(.label(#name)) }
        });
        let bloom = self.dims.iter().position(|column| column.has("bloom"));
        let bloom = bloom.map_or_else(|| quote!(#krate::EngineConfig::NO_BLOOM), |index| quote!(#index));
        let counter_count = self.counters.len();
        let rollups =
            self.dims.iter().enumerate().filter(|(_, column)| column.has("rollup")).map(|(index, _)| index);
        quote! {
            #[automatically_derived]
            impl #krate::Schema for #ident {
                type Builder = #builder;
                type Filter = #filter;
                type Row = #row;
                type View<'a> = #view<'a>;
                type Totals = #krate::Totals<#counter_count>;
                type RollupValue = #krate::RollupValue<#counter_count>;

                fn table_schema() -> #krate::TableSchema {
                    #krate::TableSchema::new(#id)#(.dim(#dims))*#(.counter(#counters))*#(#labels)*
                }

                fn default_config(data_dir: ::std::path::PathBuf) -> #krate::EngineConfig {
                    #krate::EngineConfig {
                        data_dir,
                        schema_id: #id,
                        bloom_dim: #bloom,
                        rollup_dims: ::std::vec![#(#rollups),*],
                        ..::core::default::Default::default()
                    }
                }

                fn row_of(builder: &#builder) -> #krate::RowRef<'_> {
                    builder.event.as_row()
                }

                fn id_of(builder: &mut #builder) -> &mut ::std::string::String {
                    &mut builder.event.id
                }

                #[inline]
                fn read_row(row: &#krate::RowView<'_>) -> ::core::result::Result<#row, #krate::DbError> {
                    ::core::result::Result::Ok(#row { row: #krate::EventRow::read(row)? })
                }

                fn view_of<'a>(row: &#krate::RowView<'a>) -> #view<'a> {
                    #view { row: *row }
                }
            }
        }
    }

    /// All columns with their places in `LogEvent` and in rows.
    fn slots(&self) -> impl Iterator<Item = Slot<'a>> {
        let arrays = [
            (Role::Dim, &self.dims, quote!(dims)),
            (Role::Counter, &self.counters, quote!(counters)),
            (Role::Label, &self.labels, quote!(labels)),
        ];
        arrays.into_iter().flat_map(|(role, columns, array)| {
            let slot = move |(index, &column)| Slot { column, role, index, place: quote!(#array[#index]) };
            columns.iter().enumerate().map(slot)
        })
    }
}

/// What clippy expects of methods with well-known names; the names here are columns of the user's choice.
fn allow_any_name() -> TokenStream {
    quote! {
        #[allow(
            clippy::iter_not_returning_iterator,
            clippy::len_without_is_empty,
            reason = "methods are called as the columns are"
        )]
    }
}

/// A setter of a number at `place` in `event`.
fn setter(vis: &Visibility, name: &Ident, ty: &TokenStream, place: &impl ToTokens, doc: &str) -> TokenStream {
    quote! {
        #[doc = #doc]
        #vis fn #name(mut self, value: #ty) -> Self {
            self.event.#place = value;
            self
        }
    }
}

fn text_setter(vis: &Visibility, name: &Ident, place: &TokenStream, doc: &str) -> TokenStream {
    quote! {
        #[doc = #doc]
        #vis fn #name(mut self, value: impl ::core::convert::Into<::std::string::String>) -> Self {
            self.event.#place = ::core::convert::Into::into(value);
            self
        }
    }
}
