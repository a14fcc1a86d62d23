//! Rows of a valid table as a query gives them: `XRow`, copied, and `XView`, read where it lies.
//!
//! Both wrap a type of the engine that reads columns by their places, with methods of the same names: a getter is a call
//! of one of them with a place known here.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::Visibility;

use super::{Expansion, Slot, allow_any_name};
use crate::attr::Role;
use crate::builtin::{self, Number};

impl Expansion<'_> {
    /// The owned row.
    pub(super) fn row(&self) -> TokenStream {
        let Self { vis, ident, krate, row, shape, .. } = self;
        let text = quote!(&::core::primitive::str);
        let getters = self.getters(&text, &text);
        let doc = format!("An event of [`{ident}`] as a query returns it, owned.");
        let into_doc = format!("Only the columns, as an [`{ident}`].");
        let columns = self.slots().map(|Slot { column, role, index, .. }| {
            let (field, read) = (column.ident, role_method(role));
            let value = quote!(self.row.#read(#index));
            match role {
                Role::Counter => quote!(#field: #value),
                Role::Dim | Role::Label => quote!(#field: ::std::borrow::ToOwned::to_owned(#value)),
            }
        });
        let debug = self.debug_of(row, &quote!(#row));
        let [dims, counters, labels] = [&self.dims, &self.counters, &self.labels]
            .map(|columns| columns.iter().map(|column| &column.name).collect::<Vec<_>>());
        let allow = allow_any_name();
        quote! {
            #[doc = #doc]
            #[doc = ""]
            #[doc = "Cost: one allocation for all its texts; a getter takes about a nanosecond."]
            #[derive(::core::clone::Clone, ::core::cmp::PartialEq)]
            #vis struct #row {
                row: #krate::EventRow #shape,
            }

            #allow
            impl #row {
                #(#getters)*

                #[doc = #into_doc]
                #[must_use]
                #vis fn into_event(self) -> #ident {
                    #ident { #(#columns),* }
                }

                /// The row as a raw engine returns it.
                #[must_use]
                #vis fn into_event_ref(self) -> #krate::EventRef #shape {
                    ::core::convert::From::from(self.row)
                }
            }

            #debug
            #krate::__serde_of_row!(#row, dims [#(#dims),*], counters [#(#counters),*], labels [#(#labels),*]);

            #[automatically_derived]
            impl ::core::convert::From<#row> for #ident {
                fn from(row: #row) -> Self {
                    row.into_event()
                }
            }
        }
    }

    /// The borrowed row.
    pub(super) fn view(&self) -> TokenStream {
        let Self { vis, ident, krate, row, view, .. } = self;
        let dim = quote!(&'a ::core::primitive::str);
        let text = quote!(::core::result::Result<
            ::std::borrow::Cow<'a, ::core::primitive::str>,
            #krate::DbError,
        >);
        let getters = self.getters(&dim, &text);
        let doc = format!("An event of [`{ident}`] as a query finds it, read where it lies.");
        let into_doc = format!("Copies the event, as a [`{row}`].");
        let debug = self.debug_of(view, &quote!(#view<'_>));
        let allow = allow_any_name();
        quote! {
            #[doc = #doc]
            #[doc = ""]
            #[doc = "It lives as long as the call of the function that a query gave it to. Numbers and dims never fail and"]
            #[doc = "take a few nanoseconds; the id and labels are decoded when they are asked for, and are an error where"]
            #[doc = "the segment is damaged."]
            #[derive(::core::clone::Clone, ::core::marker::Copy)]
            #vis struct #view<'a> {
                row: #krate::RowView<'a>,
            }

            #allow
            impl<'a> #view<'a> {
                #(#getters)*

                #[doc = #into_doc]
                #[doc = ""]
                #[doc = "# Errors"]
                #[doc = "`Corrupt` or `Io` when the id or a label cannot be read."]
                #vis fn into_row(self) -> ::core::result::Result<#row, #krate::DbError> {
                    <#ident as #krate::Schema>::read_row(&self.row)
                }
            }

            #debug
        }
    }

    /// The getters of a row: columns, id, built-in numbers, sequence. `dim` is the type of dims, `text` that of the id and
    /// of labels.
    fn getters(&self, dim: &TokenStream, text: &TokenStream) -> Vec<TokenStream> {
        let Self { vis, krate, .. } = self;
        let can_fail = dim.to_string() != text.to_string();
        let getter = |name: &Ident, ty: &TokenStream, read: &TokenStream, doc: &str, can_fail: bool| {
            let errors = can_fail.then(|| {
                quote! {
                    #[doc = ""]
                    #[doc = "# Errors"]
                    #[doc = "`Corrupt` or `Io` when it cannot be read."]
                }
            });
            let must_use = (!can_fail).then(|| quote!(#[must_use]));
            getter(vis, name, ty, read, &quote!(#[doc = #doc] #errors #must_use))
        };
        let columns = self.slots().map(|Slot { column, role, index, .. }| {
            let read = role_method(role);
            let doc = format!("Returns the {} `{}`.", role.name(), column.name);
            let u32_ty = quote!(::core::primitive::u32);
            let ty = match role {
                Role::Counter => &u32_ty,
                Role::Dim => dim,
                Role::Label => text,
            };
            let is_text = matches!(role, Role::Label);
            getter(&column.method(), ty, &quote!(#read(#index)), &doc, can_fail && is_text)
        });
        let id = getter(&format_ident!("id"), text, &quote!(id()), "Returns the id.", can_fail);
        let numbers = builtin::NUMBERS.iter().map(|number: &Number| {
            let (name, doc) = (number.ident(), format!("Returns {}.", number.what));
            getter(&name, &number.ty(krate), &quote!(#name()), &doc, false)
        });
        let doc =
            "Returns the sequence, the unique number that the engine gave the event when it was appended.";
        let u64_ty = quote!(::core::primitive::u64);
        let sequence = getter(&format_ident!("sequence"), &u64_ty, &quote!(sequence()), doc, false);
        columns.chain([id]).chain(numbers).chain([sequence]).collect()
    }

    /// `Debug` of a row: each column by its name.
    fn debug_of(&self, name: &Ident, ty: &TokenStream) -> TokenStream {
        let name = name.to_string();
        let own = self.slots().map(|Slot { column, role, index, .. }| {
            let (name, read) = (&column.name, role_method(role));
            quote!(.field(#name, &self.row.#read(#index)))
        });
        let built_in = builtin::NUMBERS.iter().map(Number::ident).chain([format_ident!("sequence")]);
        let built_in = built_in.map(|name| {
            let text = name.to_string();
            quote!(.field(#text, &self.row.#name()))
        });
        quote! {
            #[automatically_derived]
            impl ::core::fmt::Debug for #ty {
                fn fmt(&self, out: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    out.debug_struct(#name)
                        .field("id", &self.row.id())
                        #(#built_in)*
                        #(#own)*
                        .finish()
                }
            }
        }
    }
}

/// The method that reads a role's columns from a row, by their places.
fn role_method(role: Role) -> TokenStream {
    match role {
        Role::Dim => quote!(dim),
        Role::Counter => quote!(counter),
        Role::Label => quote!(label),
    }
}

/// A getter of what `read`, a call, returns from the row inside.
fn getter(
    vis: &Visibility,
    name: &Ident,
    ty: &TokenStream,
    read: &TokenStream,
    attributes: &TokenStream,
) -> TokenStream {
    quote! {
        #attributes
        #[inline]
        #vis fn #name(&self) -> #ty {
            self.row.#read
        }
    }
}
