//! Our view of the struct: a table with columns in field order, each with its roles.
//!
//! It is built from any input, however wrong: a column then has no role or two, an enum has no columns. Only after
//! `valid` has passed does each column have exactly one role, the one that [`Column::role`] returns.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::ext::IdentExt as _;
use syn::{Data, DeriveInput, Field, Path, parse_quote};

use crate::attr::{self, Role, RoleAttr, TableAttrs};
use crate::errors::Errors;

/// The struct as a table.
pub(crate) struct Table<'a> {
    pub(crate) input: &'a DeriveInput,
    pub(crate) attrs: TableAttrs<'a>,
    pub(crate) columns: Vec<Column<'a>>,
}

/// A named field as a column.
pub(crate) struct Column<'a> {
    pub(crate) field: &'a Field,
    pub(crate) ident: &'a Ident,
    /// The column's name: the field's, without the `r#` of a raw identifier.
    pub(crate) name: String,
    pub(crate) roles: Vec<RoleAttr<'a>>,
}

impl<'a> Table<'a> {
    /// Reads `input`, with the mistakes of its attributes into `errors`.
    pub(crate) fn read(input: &'a DeriveInput, errors: &mut Errors) -> Self {
        let attrs = attr::of_struct(&input.attrs, errors);
        let columns = match &input.data {
            Data::Struct(data) => {
                data.fields.iter().filter_map(|field| Column::read(field, errors)).collect()
            }
            Data::Enum(_) | Data::Union(_) => Vec::new(),
        };
        Self { input, attrs, columns }
    }

    /// The path of `keplordb` as the user's crate sees it.
    pub(crate) fn krate(&self) -> Path {
        self.attrs.krate.clone().unwrap_or_else(|| parse_quote!(::keplordb))
    }

    /// The columns of one role, in field order: their place here is their index in `LogEvent`'s array.
    pub(crate) fn of_role(&self, role: Role) -> Vec<&Column<'a>> {
        self.columns.iter().filter(|column| column.role() == Some(role)).collect()
    }

    /// The name of the generated builder.
    pub(crate) fn builder(&self) -> Ident {
        generated(format_ident!("{}Builder", self.input.ident))
    }

    /// The name of the generated filter.
    pub(crate) fn filter(&self) -> Ident {
        generated(format_ident!("{}Filter", self.input.ident))
    }

    /// The name of the generated row.
    pub(crate) fn row(&self) -> Ident {
        generated(format_ident!("{}Row", self.input.ident))
    }

    /// The name of the generated row that is not copied.
    pub(crate) fn view(&self) -> Ident {
        generated(format_ident!("{}View", self.input.ident))
    }

    /// The struct of column tokens.
    pub(crate) fn cols(&self) -> Ident {
        generated(format_ident!("{}Cols", self.input.ident))
    }
}

impl<'a> Column<'a> {
    /// `None` for the fields of tuple structs, which have no names.
    fn read(field: &'a Field, errors: &mut Errors) -> Option<Self> {
        let ident = field.ident.as_ref()?;
        let roles = attr::of_field(&field.attrs, errors);
        Some(Self { field, ident, name: ident.unraw().to_string(), roles })
    }

    /// The name of its setters and its getter.
    pub(crate) fn method(&self) -> Ident {
        generated(self.ident.clone())
    }

    /// Its role, the first if it wrongly has two.
    pub(crate) fn role(&self) -> Option<Role> {
        self.roles.first().map(|attr| attr.role)
    }

    /// Whether its role has the option of this name.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.roles.first().is_some_and(|role| role.option(option).is_some())
    }
}

/// `ident` as a name of ours at the user's place: errors point there, but lints do not blame the user twice for an
/// unusual name.
fn generated(mut ident: Ident) -> Ident {
    ident.set_span(Span::call_site().located_at(ident.span()));
    ident
}

#[cfg(test)]
mod tests {
    use quote::ToTokens as _;

    use super::*;

    #[test]
    fn columns_keep_field_order_within_their_role() {
        let input: DeriveInput = parse_quote! {
            #[keplordb(id = 3)]
            struct Call {
                #[counter] tokens: u32,
                #[dim] r#type: String,
                #[label(index)] trace: String,
                #[dim(rollup)] user: String,
            }
        };
        let mut errors = Errors::default();
        let table = Table::read(&input, &mut errors);
        assert!(errors.into_error().is_none());
        let names = |role| table.of_role(role).iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(Role::Dim), ["type", "user"]);
        assert_eq!(names(Role::Counter), ["tokens"]);
        assert_eq!(names(Role::Label), ["trace"]);
        assert!(table.of_role(Role::Label)[0].has("index"));
        assert!(!table.of_role(Role::Dim)[0].has("rollup") && table.of_role(Role::Dim)[1].has("rollup"));
        assert_eq!(table.krate().to_token_stream().to_string(), ":: keplordb");
        assert_eq!(table.builder(), "CallBuilder");
    }
}
