//! Every rule that a struct must keep, each with its one message at the user's token.

use quote::ToTokens as _;
use syn::{Data, DeriveInput, Expr, ExprLit, Fields, Lit, Type};

use crate::ast::{Column, Table};
use crate::attr::Role;
use crate::builtin;
use crate::errors::Errors;

/// Limits of the stored schema: a copy of those in `keplordb`'s schema.rs, and a test there compares them.
const MAX_DIMS: usize = 256;
const MAX_COUNTERS: usize = 64;
const MAX_LABELS: usize = 64;
const MAX_NAME_BYTES: usize = 255;

/// Checks `table`, with its mistakes into `errors`.
pub(crate) fn check(table: &Table<'_>, errors: &mut Errors) {
    // What is no plain struct breaks further rules only in consequence.
    if !is_plain_struct(table.input, errors) {
        return;
    }
    check_id(table, errors);
    for column in &table.columns {
        check_name(column, errors);
        check_role(column, errors);
    }
    check_bloom(table, errors);
    check_count(table, Role::Dim, MAX_DIMS, errors);
    check_count(table, Role::Counter, MAX_COUNTERS, errors);
    check_count(table, Role::Label, MAX_LABELS, errors);
}

fn is_plain_struct(input: &DeriveInput, errors: &mut Errors) -> bool {
    let wrong = match &input.data {
        Data::Enum(data) => Some((data.enum_token.to_token_stream(), "an enum")),
        Data::Union(data) => Some((data.union_token.to_token_stream(), "a union")),
        Data::Struct(data) => match &data.fields {
            Fields::Unnamed(fields) => Some((fields.to_token_stream(), "a tuple struct")),
            Fields::Unit => Some((input.ident.to_token_stream(), "a unit struct")),
            Fields::Named(_) => None,
        },
    };
    if let Some((tokens, what)) = wrong {
        errors.push(tokens, format!("a schema is a struct with named fields, not {what}"));
        return false;
    }
    if !input.generics.params.is_empty() {
        errors.push(&input.generics, "a schema cannot have generics or lifetimes: its columns are fixed");
        return false;
    }
    if let Some(clause) = &input.generics.where_clause {
        errors.push(clause, "a schema cannot have a where clause: it has no generics");
        return false;
    }
    true
}

fn check_id(table: &Table<'_>, errors: &mut Errors) {
    match (&table.attrs.id, table.attrs.original) {
        (Some(Expr::Lit(ExprLit { lit: Lit::Int(id), .. })), _)
            if id.base10_parse::<u8>().is_ok() && ["", "u8"].contains(&id.suffix()) => {}
        (Some(id), _) => errors.push(id, "the schema id must be an integer literal from 0 to 255"),
        (None, _) if table.attrs.faulty => {}
        (None, Some(attr)) => errors.push(attr, "missing option `id`: `id = N`, with N from 0 to 255"),
        (None, None) => errors.push(&table.input.ident, "missing #[keplordb(id = N)], with N from 0 to 255"),
    }
}

fn check_name(column: &Column<'_>, errors: &mut Errors) {
    if let Some(why) = builtin::reserved(&column.name) {
        errors.push(column.ident, format!("no column can be called `{}`: {why}", column.name));
    }
    let bytes = column.name.len();
    if bytes > MAX_NAME_BYTES {
        errors.push(
            column.ident,
            format!("a column name of {bytes} bytes; at most {MAX_NAME_BYTES} are possible"),
        );
    }
}

fn check_role(column: &Column<'_>, errors: &mut Errors) {
    match column.roles.as_slice() {
        [] => {
            let message = format!("column `{}` has no role: add #[dim], #[counter] or #[label]", column.name);
            errors.push(column.ident, message);
        }
        [only] => check_type(only.role, &column.field.ty, errors),
        [first, others @ ..] => {
            for other in others {
                let message =
                    format!("column `{}` is a #[{}] already: one role only", column.name, first.role.name());
                errors.push(other.original, message);
            }
        }
    }
}

fn check_type(role: Role, ty: &Type, errors: &mut Errors) {
    let (fits, wanted) = match role {
        Role::Counter => (is_u32(ty), "u32"),
        Role::Dim | Role::Label => (is_string(ty), "String"),
    };
    if !fits {
        errors.push(ty, format!("a #[{}] must be a `{wanted}`", role.name()));
    }
}

/// Whether `ty` is written as `u32` or by its path.
pub(crate) fn is_u32(ty: &Type) -> bool {
    is_path(ty, &["u32"])
        || is_path(ty, &["core", "primitive", "u32"])
        || is_path(ty, &["std", "primitive", "u32"])
}

fn is_string(ty: &Type) -> bool {
    is_path(ty, &["String"])
        || is_path(ty, &["std", "string", "String"])
        || is_path(ty, &["alloc", "string", "String"])
}

/// Whether `ty` is written as this path, with or without leading `::`.
fn is_path(ty: &Type, names: &[&str]) -> bool {
    match ty {
        // Invisible delimiters, around a type that came through a `$ty:ty` of `macro_rules!`.
        Type::Group(group) => is_path(&group.elem, names),
        Type::Paren(paren) => is_path(&paren.elem, names),
        Type::Path(path) if path.qself.is_none() => {
            let segments = &path.path.segments;
            segments.len() == names.len()
                && segments
                    .iter()
                    .zip(names)
                    .all(|(segment, name)| segment.arguments.is_none() && segment.ident == name)
        }
        _ => false,
    }
}

fn check_bloom(table: &Table<'_>, errors: &mut Errors) {
    let blooms = table.columns.iter().flat_map(|column| {
        column.roles.iter().filter_map(|role| role.option("bloom")).map(|option| (&column.name, option))
    });
    let mut first = None;
    for (name, option) in blooms {
        match first {
            None => first = Some(name),
            Some(first) => {
                errors.push(option, format!("only one dim can have the bloom filter: `{first}` has it"));
            }
        }
    }
}

fn check_count(table: &Table<'_>, role: Role, max: usize, errors: &mut Errors) {
    if let Some(excess) = table.of_role(role).get(max) {
        errors.push(excess.ident, format!("too many {}s: at most {max} are possible", role.name()));
    }
}

#[cfg(test)]
mod tests {
    use quote::format_ident;
    use syn::parse_quote;

    use super::*;

    fn mistakes(input: &DeriveInput) -> Vec<String> {
        let mut errors = Errors::default();
        let table = Table::read(input, &mut errors);
        check(&table, &mut errors);
        errors.into_error().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn types_are_recognised_by_their_usual_paths() {
        let strings: [Type; 4] = [
            parse_quote!(String),
            parse_quote!(::std::string::String),
            parse_quote!(std::string::String),
            parse_quote!((alloc::string::String)),
        ];
        assert!(strings.iter().all(is_string));
        let others: [Type; 5] = [
            parse_quote!(&str),
            parse_quote!(my::String),
            parse_quote!(String<u8>),
            parse_quote!(<T as X>::String),
            parse_quote!(Option<String>),
        ];
        assert!(!others.iter().any(is_string));
        let grouped = Type::Group(syn::TypeGroup {
            attrs: Vec::new(),
            group_token: syn::token::Group::default(),
            elem: parse_quote!(u32),
        });
        assert!(
            is_u32(&grouped) && is_u32(&parse_quote!(::core::primitive::u32)) && !is_u32(&parse_quote!(u64))
        );
    }

    #[test]
    fn ids_are_literals_of_a_byte() {
        let id_mistakes = |id: Expr| {
            mistakes(&parse_quote!(
                #[keplordb(id = #id)]
                struct S {}
            ))
            .len()
        };
        let good: [Expr; 4] = [parse_quote!(0), parse_quote!(255), parse_quote!(7u8), parse_quote!(0x10)];
        assert_eq!(good.map(id_mistakes), [0; 4]);
        let bad: [Expr; 6] = [
            parse_quote!(256),
            parse_quote!(-1),
            parse_quote!("1"),
            parse_quote!(1u32),
            parse_quote!(ID),
            parse_quote!(1.0),
        ];
        assert_eq!(bad.map(id_mistakes), [1; 6]);
    }

    #[test]
    fn counts_are_allowed_up_to_their_limit() {
        let with = |role: &str, ty: &str, count: usize| {
            let (role, ty) = (format_ident!("{role}"), format_ident!("{ty}"));
            let names = (0..count).map(|i| format_ident!("column_{i}"));
            mistakes(&parse_quote!(#[keplordb(id = 1)] struct S { #(#[#role] #names: #ty),* }))
        };
        for (role, ty, max) in
            [("dim", "String", MAX_DIMS), ("counter", "u32", MAX_COUNTERS), ("label", "String", MAX_LABELS)]
        {
            assert_eq!(with(role, ty, max), Vec::<String>::new());
            assert_eq!(with(role, ty, max + 3), [format!("too many {role}s: at most {max} are possible")]);
        }
    }

    #[test]
    fn names_are_allowed_up_to_their_limit() {
        let named = |bytes: usize| {
            let name = format_ident!("{}", "x".repeat(bytes));
            mistakes(&parse_quote!(#[keplordb(id = 1)] struct S { #[counter] #name: u32 }))
        };
        assert_eq!(named(MAX_NAME_BYTES), Vec::<String>::new());
        assert_eq!(named(MAX_NAME_BYTES + 1), ["a column name of 256 bytes; at most 255 are possible"]);
    }

    #[test]
    fn a_raw_identifier_does_not_evade_a_reserved_name() {
        let mistakes = mistakes(&parse_quote!(
            #[keplordb(id = 1)]
            struct S {
                #[dim]
                r#status: String,
            }
        ));
        assert_eq!(
            mistakes,
            ["no column can be called `status`: every table has a built-in column of this name"]
        );
    }

    #[test]
    fn independent_mistakes_are_all_reported_and_consequences_are_not() {
        let two = mistakes(&parse_quote!(
            #[keplordb(id = 1)]
            struct S {
                #[dim]
                a: u32,
                b: bool,
            }
        ));
        assert_eq!(
            two,
            ["a #[dim] must be a `String`", "column `b` has no role: add #[dim], #[counter] or #[label]"]
        );
        let one = mistakes(&parse_quote!(
            struct S<T> {
                #[dim]
                a: T,
                b: bool,
            }
        ));
        assert_eq!(one, ["a schema cannot have generics or lifetimes: its columns are fixed"]);
        let misspelt = mistakes(&parse_quote!(
            #[keplordb(idd = 1)]
            struct S {}
        ));
        assert_eq!(misspelt, ["unknown option `idd`: #[keplordb] takes `id` and `crate`"]);
    }
}
