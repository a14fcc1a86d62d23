//! The columns that every table has beside its own, and the names that its own can therefore not have.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::Path;

/// A built-in number: a setter of the builder and a getter of the row.
pub(crate) struct Number {
    name: &'static str,
    ty: Type,
    /// What it is, as the object of "Sets" and "Returns".
    pub(crate) what: &'static str,
}

enum Type {
    I64,
    U32,
    U16,
    Flags,
}

/// The built-in numbers, in the order of `LogEvent`'s fields. The id, a string, is the one built-in besides.
pub(crate) const NUMBERS: [Number; 6] = [
    Number { name: "ts_ns", ty: Type::I64, what: "when it happened, in nanoseconds since the Unix epoch" },
    Number { name: "metric", ty: Type::I64, what: "the measure that matters most (a cost, a delay, a size)" },
    Number { name: "latency_ms", ty: Type::U32, what: "how long it took, in milliseconds" },
    Number {
        name: "latency_detail_ms",
        ty: Type::U32,
        what: "a part of the latency (the time to the first byte, say), in milliseconds",
    },
    Number { name: "status", ty: Type::U16, what: "the status code, as of HTTP" },
    Number { name: "flags", ty: Type::Flags, what: "sixteen booleans" },
];

impl Number {
    /// The name of its setter, its getter and its field in `LogEvent` and `EventRef`.
    pub(crate) fn ident(&self) -> Ident {
        format_ident!("{}", self.name)
    }

    /// Its type, by absolute path.
    pub(crate) fn ty(&self, krate: &Path) -> TokenStream {
        match self.ty {
            Type::I64 => quote!(::core::primitive::i64),
            Type::U32 => quote!(::core::primitive::u32),
            Type::U16 => quote!(::core::primitive::u16),
            Type::Flags => quote!(#krate::EventFlags),
        }
    }
}

/// A built-in column as a token: its name, its type, how it is made, and what it stands for.
type Token = (Ident, TokenStream, TokenStream, &'static str);

/// The tokens of the built-in columns.
pub(crate) fn tokens(krate: &Path, ident: &Ident) -> Vec<Token> {
    let number = |name: &str, ty: TokenStream, make: &str, what| {
        let make = format_ident!("{make}");
        let ty = quote!(#krate::columns::Number<#ident, #ty>);
        (format_ident!("{name}"), ty, quote!(#krate::columns::Number::#make()), what)
    };
    let single = |name: &str, kind: &str, make: &str, what| {
        let (kind, make) = (format_ident!("{kind}"), format_ident!("{make}"));
        let ty = quote!(#krate::columns::#kind<#ident>);
        (format_ident!("{name}"), ty, quote!(#krate::columns::#kind::#make()), what)
    };
    vec![
        single("ts_ns", "Time", "built_in", "the time, in nanoseconds since the Unix epoch"),
        single("sequence", "Sequence", "built_in", "the number that the engine gave an event"),
        single("id", "Text", "id", "the id"),
        number("metric", quote!(::core::primitive::i64), "metric", "the metric"),
        number("latency_ms", quote!(::core::primitive::u32), "latency", "the latency, in milliseconds"),
        number(
            "latency_detail_ms",
            quote!(::core::primitive::u32),
            "latency_detail",
            "the latency detail, in milliseconds",
        ),
        single("status", "Status", "built_in", "the status"),
        single("flags", "Flags", "built_in", "the flags"),
    ]
}

/// Generated functions that are no column. The last three are not generated but called by their short names on
/// generated types (`builder.clone()`), where a setter of that name would come first.
const METHODS: [&str; 11] =
    ["at", "cursor", "default_config", "filter", "from", "new", "sequence", "to", "clone", "default", "into"];

/// Why no column can be called `name`, or `None` if one can.
pub(crate) fn reserved(name: &str) -> Option<&'static str> {
    if name == "id" || NUMBERS.iter().any(|number| number.name == name) {
        Some("every table has a built-in column of this name")
    } else if METHODS.contains(&name) {
        Some("generated types have a method of this name")
    } else if name.starts_with("into_") {
        Some("names that begin with `into_` are kept for generated conversions")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_ins_methods_and_conversions_are_reserved() {
        let reserved_names = "id ts_ns metric latency_ms latency_detail_ms status flags sequence from to cursor new at \
                              filter default_config into_log_event into_filter into_event into_event_ref clone into";
        for name in reserved_names.split_whitespace() {
            assert!(reserved(name).is_some(), "{name} must be reserved");
        }
        for name in "user model event dims counters labels value into idx ids type".split_whitespace() {
            assert_eq!(reserved(name).is_some(), name == "into", "{name}");
        }
    }
}
