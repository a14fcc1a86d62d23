//! Reads our attributes off a struct and its fields; doubled and unknown ones are rejected at their span.
//!
//! What could be read is returned even after a mistake, because the fallback is made from it. Whether the values make
//! sense is for `valid` to say.

use proc_macro2::TokenTree;
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Expr, ExprLit, Ident, Lit, Meta, Path, Result, Token};

use crate::errors::Errors;

/// What `#[keplordb(…)]` on the struct says.
#[derive(Default)]
pub(crate) struct TableAttrs<'a> {
    pub(crate) original: Option<&'a Attribute>,
    pub(crate) id: Option<Expr>,
    pub(crate) krate: Option<Path>,
    /// A mistake was reported: what lacks here may just not have been read, and is no second mistake.
    pub(crate) faulty: bool,
}

/// One of `#[dim]`, `#[counter]`, `#[label]` on a field.
pub(crate) struct RoleAttr<'a> {
    pub(crate) original: &'a Attribute,
    pub(crate) role: Role,
    options: Vec<Ident>,
}

/// What a column is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// A string to filter and group by.
    Dim,
    /// A number to sum.
    Counter,
    /// A string that is only stored.
    Label,
}

impl Role {
    const ALL: [Self; 3] = [Self::Dim, Self::Counter, Self::Label];

    /// The role as its attribute is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dim => "dim",
            Self::Counter => "counter",
            Self::Label => "label",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Dim => &["bloom", "rollup"],
            Self::Counter => &[],
            Self::Label => &["index"],
        }
    }

    fn of(attr: &Attribute) -> Option<Self> {
        Self::ALL.into_iter().find(|role| attr.path().is_ident(role.name()))
    }
}

impl RoleAttr<'_> {
    /// The option of this name, if given.
    pub(crate) fn option(&self, name: &str) -> Option<&Ident> {
        self.options.iter().find(|option| *option == name)
    }
}

/// Reads the attributes of the struct.
pub(crate) fn of_struct<'a>(attrs: &'a [Attribute], errors: &mut Errors) -> TableAttrs<'a> {
    let mut table = TableAttrs::default();
    for attr in attrs {
        if let Some(role) = Role::of(attr) {
            errors.push(attr, format!("#[{}] belongs on a field", role.name()));
        } else if !attr.path().is_ident("keplordb") {
            // Some other macro's.
        } else if table.original.is_some() {
            errors.push(attr, "duplicate #[keplordb]: put all options into one");
        } else {
            table.original = Some(attr);
            let read = each_option(attr, |option| read_table_option(&mut table, option, errors));
            if let Err(error) = read {
                table.faulty = true;
                errors.add(error);
            }
        }
    }
    table
}

/// Reads the attributes of one field.
pub(crate) fn of_field<'a>(attrs: &'a [Attribute], errors: &mut Errors) -> Vec<RoleAttr<'a>> {
    let mut roles: Vec<RoleAttr<'a>> = Vec::new();
    for attr in attrs {
        if attr.path().is_ident("keplordb") {
            errors.push(attr, "#[keplordb] belongs on the struct");
        }
        let Some(role) = Role::of(attr) else { continue };
        if roles.iter().any(|earlier| earlier.role == role) {
            errors.push(attr, format!("duplicate #[{}]", role.name()));
            continue;
        }
        let mut options = Vec::new();
        if let Err(error) = each_option(attr, |option| read_role_option(role, &mut options, option, errors)) {
            errors.add(error);
        }
        roles.push(RoleAttr { original: attr, role, options });
    }
    roles
}

/// An option in the parentheses of an attribute, and what follows it.
struct Opt<'a> {
    name: Ident,
    input: ParseStream<'a>,
}

impl Opt<'_> {
    /// The value after `=`, or `None` if there is none.
    fn value(&self) -> Result<Option<Expr>> {
        if self.input.parse::<Option<Token![=]>>()?.is_none() {
            return Ok(None);
        }
        let mut value = self.input.parse()?;
        // Invisible delimiters, around a value that came through a `$id:expr` of `macro_rules!`.
        while let Expr::Group(group) = value {
            value = *group.expr;
        }
        Ok(Some(value))
    }

    fn has_value(&self) -> bool {
        !self.input.is_empty() && !self.input.peek(Token![,])
    }

    /// Moves past the `= …` or `(…)` of an option that was not understood, to the next one.
    fn skip_value(&self) -> Result<()> {
        while self.has_value() {
            self.input.parse::<TokenTree>()?;
        }
        Ok(())
    }
}

/// Calls `read` for each option of `attr`; an error means that the rest was not read.
fn each_option(attr: &Attribute, mut read: impl FnMut(&Opt<'_>) -> Result<()>) -> Result<()> {
    match &attr.meta {
        Meta::Path(_) => Ok(()),
        Meta::List(list) => list.parse_args_with(|input: ParseStream<'_>| {
            while !input.is_empty() {
                let name = input
                    .call(Ident::parse_any)
                    .map_err(|_| input.error("expected the name of an option"))?;
                read(&Opt { name, input })?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        }),
        Meta::NameValue(pair) => {
            let name = pair.path.to_token_stream();
            Err(Error::new_spanned(pair, format!("options go into parentheses: #[{name}(…)]")))
        }
    }
}

fn read_table_option(table: &mut TableAttrs<'_>, option: &Opt<'_>, errors: &mut Errors) -> Result<()> {
    let name = &option.name;
    if name == "id" {
        let Some(id) = option.value()? else {
            return Err(Error::new_spanned(
                name,
                "option `id` needs a value: `id = N`, with N from 0 to 255",
            ));
        };
        if table.id.replace(id).is_some() {
            errors.push(name, "duplicate option `id`");
        }
    } else if name == "crate" {
        match option.value()?.as_ref().map(path_in_string) {
            Some(Ok(krate)) if table.krate.is_none() => table.krate = Some(krate),
            Some(Ok(_)) => errors.push(name, "duplicate option `crate`"),
            Some(Err(error)) => errors.add(error),
            None => errors.push(name, "option `crate` needs a value: `crate = \"path::to::keplordb\"`"),
        }
    } else {
        errors.push(name, format!("unknown option `{name}`: #[keplordb] takes `id` and `crate`"));
        // An unknown option is most often a misspelt one: do not also call the right one missing.
        table.faulty = true;
        option.skip_value()?;
    }
    Ok(())
}

fn path_in_string(value: &Expr) -> Result<Path> {
    let path = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.parse_with(Path::parse_mod_style).ok(),
        _ => None,
    };
    path.ok_or_else(|| {
        Error::new_spanned(value, "`crate` must be a path in a string: \"path::to::keplordb\"")
    })
}

fn read_role_option(
    role: Role,
    options: &mut Vec<Ident>,
    option: &Opt<'_>,
    errors: &mut Errors,
) -> Result<()> {
    let name = &option.name;
    if !role.options().iter().any(|known| name == known) {
        errors.push(name, unknown_role_option(role, name));
    } else if options.contains(name) {
        errors.push(name, format!("duplicate option `{name}`"));
    } else {
        if option.has_value() {
            errors.push(name, format!("option `{name}` takes no value"));
        }
        options.push(name.clone());
    }
    option.skip_value()
}

fn unknown_role_option(role: Role, name: &Ident) -> String {
    let here = role.name();
    if let Some(there) = Role::ALL.into_iter().find(|there| there.options().iter().any(|known| name == known))
    {
        return format!("`{name}` is an option of #[{}], not of #[{here}]", there.name());
    }
    match role.options() {
        [] => format!("unknown option `{name}`: #[{here}] takes none"),
        options => format!("unknown option `{name}`: #[{here}] takes `{}`", options.join("` and `")),
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn messages(errors: Errors) -> Vec<String> {
        errors.into_error().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn options_after_an_unknown_one_are_still_read() {
        let attrs: [Attribute; 1] =
            [parse_quote!(#[keplordb(idd = 1 + 1, crate = "other::keplordb", id = 7)])];
        let mut errors = Errors::default();
        let table = of_struct(&attrs, &mut errors);
        assert_eq!(table.krate.to_token_stream().to_string(), "other :: keplordb");
        assert_eq!(table.id.to_token_stream().to_string(), "7");
        assert_eq!(messages(errors), ["unknown option `idd`: #[keplordb] takes `id` and `crate`"]);
    }

    #[test]
    fn role_options_are_read_and_others_attributes_ignored() {
        let attrs: [Attribute; 4] = [
            parse_quote!(#[doc = "Who called."]),
            parse_quote!(#[dim(bloom, rollup,)]),
            parse_quote!(#[serde(rename = "u")]),
            parse_quote!(#[other::dim]),
        ];
        let mut errors = Errors::default();
        let roles = of_field(&attrs, &mut errors);
        assert_eq!(messages(errors), Vec::<String>::new());
        assert_eq!(roles.len(), 1);
        assert_eq!(roles[0].role, Role::Dim);
        assert!(roles[0].option("bloom").is_some() && roles[0].option("rollup").is_some());
        assert!(roles[0].option("index").is_none());
    }

    #[test]
    fn empty_parentheses_are_no_options() {
        let attrs: [Attribute; 1] = [parse_quote!(#[label()])];
        let mut errors = Errors::default();
        let roles = of_field(&attrs, &mut errors);
        assert_eq!(messages(errors), Vec::<String>::new());
        assert_eq!(roles[0].role, Role::Label);
    }

    #[test]
    fn several_mistakes_are_all_reported() {
        let attrs: [Attribute; 2] =
            [parse_quote!(#[dim(index, bloom = 1, blom, bloom)]), parse_quote!(#[counter(rollup)])];
        let mut errors = Errors::default();
        assert_eq!(of_field(&attrs, &mut errors).len(), 2);
        assert_eq!(
            messages(errors),
            [
                "`index` is an option of #[label], not of #[dim]",
                "option `bloom` takes no value",
                "unknown option `blom`: #[dim] takes `bloom` and `rollup`",
                "duplicate option `bloom`",
                "`rollup` is an option of #[dim], not of #[counter]",
            ]
        );
    }
}
