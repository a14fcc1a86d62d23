//! What may be written next at a place in a query's text that is being typed.
//!
//! The text need be no query yet, so it is walked leniently from its start up to the cursor; what stands behind the cursor does not
//! count.

use super::print::Name;
use super::text::{ends_field, ends_value, floor};
use super::{Clause, MAX_QUERY_BYTES, Operator, resolve};

/// What there is to be suggested: the entity types of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaShape {
    /// The entity types.
    pub entities: Vec<EntityShape>,
}

/// An entity type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntityShape {
    /// Its name.
    pub name: String,
    /// What may be included.
    pub relations: Vec<String>,
    /// Its fields; those of nested messages are dotted.
    pub fields: Vec<FieldShape>,
}

/// A field of an entity type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldShape {
    /// Its name.
    pub name: String,
    /// What it holds, in words for a person, such as `string`.
    pub kind: String,
    /// The values that it may have, where these are few: those of an enum, or `true` and `false`.
    pub values: Vec<String>,
}

/// What may be written at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// Where the cursor stands.
    pub context: Context,
    /// What may be written, the likeliest first.
    pub suggestions: Vec<Suggestion>,
}

/// Something that may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suggestion {
    /// As it is shown.
    pub label: String,
    /// The text to insert.
    pub insert: String,
    /// How many bytes before the cursor the text takes the place of.
    pub replace_bytes: usize,
}

/// What stands at the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContextKind {
    /// A clause begins.
    TopLevel,
    /// The name of an entity type.
    EntityValue,
    /// The number of `limit`.
    LimitValue,
    /// A field of `order`, or its direction.
    OrderValue,
    /// A relation.
    IncludeValue,
    /// A field in a condition, or its operator.
    WhereField,
    /// A value in a condition.
    WhereValue,
    /// A field of `fields`.
    FieldsValue,
    /// A value that cannot be guessed: a time, a sequence, a cursor.
    OtherValue,
}

/// Where a cursor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// What stands there.
    pub kind: ContextKind,
    /// What is written of it already, without an opening quote.
    pub partial: String,
    /// The value of the clause `entity`, if it stands before the cursor.
    pub entity: Option<String>,
    /// The field whose operator, direction or value this is.
    pub field: Option<String>,
    /// The operator whose value this is.
    pub operator: Option<String>,
    /// The names of the clauses that are there already.
    pub used: Vec<String>,
    /// What the list has before this: relations, or fields.
    pub listed: Vec<String>,
    /// Where what is written of it begins, with an opening quote.
    begin: usize,
}

/// Completes a query's text at a cursor, which is an offset in bytes; one beyond the text is at its end, and one within a character
/// before that.
///
/// ```
/// use keplordb_server::rql::{ContextKind, EntityShape, FieldShape, SchemaShape, complete};
///
/// let plan =
///     FieldShape { name: "plan".into(), kind: "enum".into(), values: vec!["free".into(), "team".into()] };
/// let user = EntityShape { name: "User".into(), relations: vec!["posts".into()], fields: vec![plan] };
/// let schema = SchemaShape { entities: vec![user] };
///
/// let text = "entity:users where:(plan=t";
/// let completion = complete(text, text.len(), &schema);
/// assert_eq!(completion.context.kind, ContextKind::WhereValue);
/// let suggestion = &completion.suggestions[0];
/// assert_eq!((suggestion.insert.as_str(), suggestion.replace_bytes), ("team", 1));
/// ```
pub fn complete(text: &str, cursor: usize, schema: &SchemaShape) -> Completion {
    let before = &text[..floor(text, cursor)];
    let mut walk = Walk { text: before, at: 0, entity: None, used: Vec::new() };
    let context = if before.len() > MAX_QUERY_BYTES {
        // Too long to be a query, whatever follows.
        walk.context(ContextKind::OtherValue, "", before.len())
    } else {
        walk.clauses()
    };
    let suggestions = Suggestions { context: &context, cursor: before.len(), schema }.all();
    Completion { context, suggestions }
}

/// The text up to the cursor, how far it is walked, and what was seen.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    entity: Option<String>,
    used: Vec<String>,
}

/// A quoted or bare piece of text.
struct Piece {
    text: String,
    begin: usize,
    /// Whether the cursor stands at its end: it may go on.
    is_open: bool,
}

impl<'a> Walk<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len();
        }
        is_next
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|next| !belongs(next)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn piece(&mut self, ends: impl Fn(char) -> bool) -> Piece {
        let begin = self.at;
        if !self.take("\"") {
            let text = self.take_while(|next| !ends(next)).to_owned();
            return Piece { text, begin, is_open: self.at_end() };
        }
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((offset, next)) = chars.next() {
            match next {
                '"' => {
                    self.at += offset + 1;
                    return Piece { text, begin, is_open: false };
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => text.push(next),
            }
        }
        self.at = self.text.len();
        Piece { text, begin, is_open: true }
    }

    fn context(&self, kind: ContextKind, partial: impl Into<String>, begin: usize) -> Context {
        Context {
            kind,
            partial: partial.into(),
            entity: self.entity.clone(),
            field: None,
            operator: None,
            used: self.used.clone(),
            listed: Vec::new(),
            begin,
        }
    }

    fn clauses(&mut self) -> Context {
        loop {
            self.skip_spaces();
            let begin = self.at;
            let word = self.take_while(|next| !next.is_whitespace() && next != ':');
            if self.at_end() {
                return self.context(ContextKind::TopLevel, word, begin);
            }
            if !self.take(":") {
                continue;
            }
            let clause = Clause::of(word);
            if let Some(clause) = clause {
                self.used.push(clause.as_str().to_owned());
            }
            if let Some(context) = self.clause(clause, begin) {
                return context;
            }
        }
    }

    /// The context, if the clause reaches up to the cursor.
    fn clause(&mut self, clause: Option<Clause>, begin: usize) -> Option<Context> {
        let kind = match clause {
            Some(Clause::Entity) => ContextKind::EntityValue,
            Some(Clause::Limit) => ContextKind::LimitValue,
            Some(Clause::Order) => return self.order(),
            Some(Clause::Include) => return self.list(ContextKind::IncludeValue),
            Some(Clause::Fields) => return self.list(ContextKind::FieldsValue),
            Some(Clause::Where) => return self.condition(),
            Some(_) => ContextKind::OtherValue,
            None => {
                let end = self.take_while(|next| !next.is_whitespace());
                let is_open = self.at_end() && (!end.is_empty() || self.text.ends_with(':'));
                return is_open.then(|| self.context(ContextKind::TopLevel, &self.text[begin..], begin));
            }
        };
        let piece = self.piece(char::is_whitespace);
        if piece.is_open {
            return Some(self.context(kind, piece.text, piece.begin));
        }
        if clause == Some(Clause::Entity) {
            self.entity = Some(piece.text);
        }
        None
    }

    fn list(&mut self, kind: ContextKind) -> Option<Context> {
        let mut listed = Vec::new();
        loop {
            let piece = self.piece(|next| next.is_whitespace() || next == ',');
            if piece.is_open {
                return Some(Context { listed, ..self.context(kind, piece.text, piece.begin) });
            }
            listed.push(piece.text);
            if !self.take(",") {
                return None;
            }
            self.skip_spaces();
        }
    }

    fn order(&mut self) -> Option<Context> {
        let mut listed = Vec::new();
        loop {
            let piece = self.piece(|next| next.is_whitespace() || next == ',');
            if piece.is_open {
                return Some(Context {
                    listed,
                    ..self.context(ContextKind::OrderValue, piece.text, piece.begin)
                });
            }
            if !piece.text.is_empty() {
                let end = self.at;
                self.skip_spaces();
                let word_begin = self.at;
                let word = self.take_while(|next| !next.is_whitespace() && !",:".contains(next));
                if self.at_end() {
                    let field = Some(piece.text);
                    let context = self.context(ContextKind::OrderValue, word, word_begin);
                    return Some(Context { field, listed, ..context });
                }
                if self.peek() == Some(':') {
                    self.at = end;
                }
                listed.push(piece.text);
            }
            let end = self.at;
            self.skip_spaces();
            if !self.take(",") {
                self.at = end;
                return None;
            }
            self.skip_spaces();
        }
    }

    /// From behind `where:`; `None` where the condition ends before the cursor.
    fn condition(&mut self) -> Option<Context> {
        let mut depth = 0_usize;
        loop {
            if depth > 0 {
                self.skip_spaces();
            }
            if self.at_end() && depth > 0 {
                return Some(self.context(ContextKind::WhereField, "", self.at));
            }
            match self.peek() {
                Some('(') => {
                    self.at += 1;
                    depth += 1;
                }
                Some(')') => {
                    self.at += 1;
                    depth = depth.saturating_sub(1);
                }
                _ => {
                    if let Some(context) = self.comparison() {
                        return Some(context);
                    }
                }
            }
            if depth == 0 {
                return None;
            }
        }
    }

    fn comparison(&mut self) -> Option<Context> {
        let field = self.piece(ends_field);
        if field.is_open {
            return Some(self.context(ContextKind::WhereField, field.text, field.begin));
        }
        if self.at == field.begin {
            // A sign that cannot stand here.
            self.at += self.peek().map_or(0, char::len_utf8);
            return None;
        }
        if ["and", "or"].iter().any(|keyword| field.text.eq_ignore_ascii_case(keyword)) {
            return None;
        }
        self.skip_spaces();
        let begin = self.at;
        let after_field = |walk: &Self| {
            let context = walk.context(ContextKind::WhereField, walk.text[begin..].to_owned(), begin);
            Context { field: Some(field.text.clone()), ..context }
        };
        // A sign that another one may follow to make an operator is no operator yet, but can be one.
        if ["", "!", "^"].contains(&self.rest()) {
            return Some(after_field(self));
        }
        let sign = Operator::ALL.into_iter().find(|operator| self.take(operator.as_str()));
        if let Some(operator) = sign {
            self.skip_spaces();
            return self.value(&field.text, operator.as_str(), ends_value);
        }
        let negated = self.take("!");
        let word = self.take_while(|next| !ends_field(next));
        if word.eq_ignore_ascii_case("in") {
            self.skip_spaces();
            if self.take("(") {
                return self.values(&field.text, if negated { "!in" } else { "in" });
            }
        }
        if negated {
            return self.at_end().then(|| after_field(self));
        }
        if word.eq_ignore_ascii_case("is") {
            let mut words = self.text[self.at..].split_whitespace();
            let is_null = |word: &str| word.trim_end_matches(')').eq_ignore_ascii_case("null");
            let (first, second) = (words.next(), words.next());
            let is_not = first.is_some_and(|first| first.eq_ignore_ascii_case("not"));
            let written = &self.text.as_bytes()[begin..];
            let is_begun = ["is null", "is not null"].iter().any(|operator| {
                let same_length = operator.as_bytes().get(..written.len());
                same_length.is_some_and(|start| start.eq_ignore_ascii_case(written))
            });
            if is_begun || first.is_none() || (is_not && second.is_none()) {
                return Some(after_field(self));
            }
            if first.is_some_and(is_null) || (is_not && second.is_some_and(is_null)) {
                self.skip_spaces();
                self.take_while(|next| !ends_field(next));
                if is_not {
                    self.skip_spaces();
                    self.take_while(|next| !ends_field(next));
                }
                return None;
            }
        }
        // An operator that is left out is equality.
        self.at = begin;
        let context = self.value(&field.text, "=", ends_value)?;
        Some(Context { operator: None, ..context })
    }

    /// A value after its operator.
    fn value(&mut self, field: &str, operator: &str, ends: impl Fn(char) -> bool) -> Option<Context> {
        let piece = self.piece(ends);
        if !piece.is_open {
            return None;
        }
        let context = self.context(ContextKind::WhereValue, piece.text, piece.begin);
        Some(Context { field: Some(field.to_owned()), operator: Some(operator.to_owned()), ..context })
    }

    /// After `in (`, and up to its `)`.
    fn values(&mut self, field: &str, operator: &str) -> Option<Context> {
        loop {
            self.skip_spaces();
            if let Some(context) = self.value(field, operator, |next| next == ',' || ends_value(next)) {
                return Some(context);
            }
            self.skip_spaces();
            if !self.take(",") {
                self.take(")");
                return None;
            }
        }
    }
}

struct Suggestions<'a> {
    context: &'a Context,
    cursor: usize,
    schema: &'a SchemaShape,
}

impl<'a> Suggestions<'a> {
    fn all(&self) -> Vec<Suggestion> {
        let context = self.context;
        match context.kind {
            ContextKind::TopLevel => self.clauses(),
            ContextKind::EntityValue => {
                self.names(self.schema.entities.iter().map(|entity| entity.name.as_str()))
            }
            ContextKind::LimitValue => self.words(["10", "50", "100"]),
            ContextKind::OrderValue if context.field.is_some() => {
                let mut suggestions = self.words(["asc", "desc"]);
                suggestions.extend(self.clauses());
                suggestions
            }
            ContextKind::OrderValue | ContextKind::FieldsValue => self.names(self.unlisted_fields()),
            ContextKind::IncludeValue => {
                let relations = self.entity().into_iter().flat_map(|entity| &entity.relations);
                self.names(relations.map(String::as_str).filter(|relation| self.is_unlisted(relation)))
            }
            ContextKind::WhereField if context.field.is_some() => self.words(OPERATORS),
            ContextKind::WhereField => self.where_field(),
            ContextKind::WhereValue => {
                let field = self.fields().find(|field| Some(&field.name) == context.field.as_ref());
                let mut suggestions = self.values(field);
                if context.operator.is_none() {
                    suggestions.extend(self.words(OPERATORS));
                }
                suggestions
            }
            ContextKind::OtherValue => Vec::new(),
        }
    }

    fn suggestion(&self, label: &str, insert: impl Into<String>) -> Suggestion {
        let replace_bytes = self.cursor - self.context.begin;
        Suggestion { label: label.to_owned(), insert: insert.into(), replace_bytes }
    }

    /// Whether it goes on from what is written, in upper and lower case alike.
    fn goes_on(&self, label: &str) -> bool {
        let partial = self.context.partial.as_bytes();
        label.as_bytes().get(..partial.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(partial))
    }

    fn words<'w>(&self, words: impl IntoIterator<Item = &'w str>) -> Vec<Suggestion> {
        let words = words.into_iter().filter(|word| self.goes_on(word));
        words.map(|word| self.suggestion(word, word)).collect()
    }

    fn names<'w>(&self, names: impl Iterator<Item = &'w str>) -> Vec<Suggestion> {
        let names = names.filter(|name| self.goes_on(name));
        names.map(|name| self.suggestion(name, Name(name).to_string())).collect()
    }

    fn clauses(&self) -> Vec<Suggestion> {
        let unused = Clause::ALL.into_iter().map(Clause::as_str).filter(|name| {
            let is_used = self.context.used.iter().any(|used| used == name);
            !is_used
        });
        let labels = unused.map(|name| match name {
            "where" => "where:(".to_owned(),
            other => format!("{other}:"),
        });
        let labels: Vec<String> = labels.collect();
        self.words(labels.iter().map(String::as_str))
    }

    /// The entity type of the query; where its name is not finished, the only one whose name begins so.
    fn entity(&self) -> Option<&'a EntityShape> {
        let written = self.context.entity.as_deref()?;
        let entities = &self.schema.entities;
        if let Ok(name) = resolve(written, entities.iter().map(|entity| entity.name.as_str())) {
            return entities.iter().find(|entity| entity.name == name);
        }
        let mut begun = entities.iter().filter(|entity| {
            let begin = entity.name.as_bytes().get(..written.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(written.as_bytes()))
        });
        begun.next().filter(|_| begun.next().is_none())
    }

    fn fields(&self) -> impl Iterator<Item = &'a FieldShape> {
        self.entity().into_iter().flat_map(|entity| &entity.fields)
    }

    fn unlisted_fields(&self) -> impl Iterator<Item = &'a str> {
        self.fields().map(|field| field.name.as_str()).filter(|name| self.is_unlisted(name))
    }

    fn is_unlisted(&self, name: &str) -> bool {
        !self.context.listed.iter().any(|listed| listed == name)
    }

    /// Fields; after one that is written in full, its operators, and longer fields.
    fn where_field(&self) -> Vec<Suggestion> {
        let partial = self.context.partial.as_str();
        let is_whole = self.fields().any(|field| field.name == partial);
        let mut suggestions = Vec::new();
        if is_whole {
            suggestions.extend(OPERATORS.iter().map(|operator| {
                let space =
                    if operator.ends_with(char::is_alphabetic) || operator.ends_with('(') { " " } else { "" };
                let insert = format!("{space}{operator}");
                Suggestion { label: (*operator).to_owned(), insert, replace_bytes: 0 }
            }));
        }
        let names =
            self.fields().map(|field| field.name.as_str()).filter(|name| *name != partial || !is_whole);
        suggestions.extend(self.names(names));
        suggestions
    }

    fn values(&self, field: Option<&FieldShape>) -> Vec<Suggestion> {
        let Some(field) = field else { return Vec::new() };
        let values = field.values.iter().filter(|value| self.goes_on(value));
        let bare = |value: &str| {
            ["bool", "boolean"].contains(&field.kind.as_str()) && ["true", "false"].contains(&value)
        };
        values
            .map(|value| {
                let insert = if bare(value) { value.clone() } else { Name(value).to_string() };
                self.suggestion(value, insert)
            })
            .collect()
    }
}

/// As they are suggested.
const OPERATORS: [&str; 12] =
    ["=", "!=", "<", "<=", ">", ">=", "~", "^=", "in (", "!in (", "is null", "is not null"];

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> SchemaShape {
        let field = |name: &str, kind: &str, values: &[&str]| FieldShape {
            name: name.to_owned(),
            kind: kind.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let relations = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let user = EntityShape {
            name: "User".to_owned(),
            relations: relations(&["posts", "comments"]),
            fields: vec![
                field("id", "string", &[]),
                field("name", "string", &[]),
                field("status", "enum", &["active", "inactive", "on hold"]),
                field("status_at", "string", &[]),
                field("age", "number", &[]),
                field("live", "bool", &["true", "false"]),
            ],
        };
        let post = EntityShape { name: "Post".to_owned(), relations: relations(&["author"]), fields: vec![] };
        SchemaShape { entities: vec![user, post] }
    }

    #[test]
    fn the_context_is_that_of_the_cursor() {
        use ContextKind::{
            EntityValue, FieldsValue, IncludeValue, LimitValue, OrderValue, OtherValue, TopLevel, WhereField,
            WhereValue,
        };
        let cases = [
            ("", TopLevel, ""),
            ("ent", TopLevel, "ent"),
            ("entity:User limit:10 ", TopLevel, ""),
            ("entity:User order: ", TopLevel, ""),
            ("sort:x", TopLevel, "sort:x"),
            ("entity:", EntityValue, ""),
            ("entity:Us", EntityValue, "Us"),
            ("entity:\"Us", EntityValue, "Us"),
            ("limit:", LimitValue, ""),
            ("limit:10", LimitValue, "10"),
            ("entity:User order:", OrderValue, ""),
            ("entity:User order:na", OrderValue, "na"),
            ("entity:User order:name ", OrderValue, ""),
            ("entity:User order:name d", OrderValue, "d"),
            ("entity:User order:created_at desc,na", OrderValue, "na"),
            ("entity:User order:created_at desc, na", OrderValue, "na"),
            ("entity:User order:name desc ", TopLevel, ""),
            ("entity:User order:name limit:10 ", TopLevel, ""),
            ("entity:User order:name limit:1", LimitValue, "1"),
            ("entity:User include:", IncludeValue, ""),
            ("entity:User include:posts", IncludeValue, "posts"),
            ("entity:User include:posts,com", IncludeValue, "com"),
            ("entity:User include:posts, comm", IncludeValue, "comm"),
            ("entity:User fields:name,a", FieldsValue, "a"),
            ("as_of:2024", OtherValue, "2024"),
            ("entity:User where:", WhereField, ""),
            ("entity:User where:(", WhereField, ""),
            ("entity:User    where:(", WhereField, ""),
            ("entity:User where:(nam", WhereField, "nam"),
            ("entity:User where:(name = \"John\" and ", WhereField, ""),
            ("entity:User where:((name = \"John\") ", WhereField, ""),
            ("entity:User where:((status = active) or (", WhereField, ""),
            ("entity:User where:(status ", WhereField, ""),
            ("entity:User where:(status !", WhereField, "!"),
            ("entity:User where:(status is", WhereField, "is"),
            ("entity:User where:(status is not", WhereField, "is not"),
            ("entity:User where:(status is null ", WhereField, ""),
            ("entity:User where:(status is not null or na", WhereField, "na"),
            ("entity:User where:(status in (active) na", WhereField, "na"),
            ("entity:User where:(status = ", WhereValue, ""),
            ("entity:User where:(status = act", WhereValue, "act"),
            ("entity:User where:(status=act", WhereValue, "act"),
            ("entity:User where:(status act", WhereValue, "act"),
            ("entity:User where:(status in (active, ", WhereValue, ""),
            ("entity:User where:(name = \"Jo", WhereValue, "Jo"),
            ("entity:User where:(name = \"John \\\"Doe\\\"", WhereValue, "John \"Doe\""),
            ("entity:User where:(age >= 18", WhereValue, "18"),
            ("entity:User where:(name = \"John\" and status = ", WhereValue, ""),
            ("entity:User where:(status=active)", TopLevel, ""),
            ("entity:User where:(status!=active) ", TopLevel, ""),
            ("entity:User where:(status!=active) l", TopLevel, "l"),
            ("where:status=active l", TopLevel, "l"),
        ];
        for (text, kind, partial) in cases {
            let context = complete(text, text.len(), &schema()).context;
            assert_eq!((context.kind, context.partial.as_str()), (kind, partial), "{text}");
            let entity = text.starts_with("entity:User ").then_some("User");
            assert_eq!(context.entity.as_deref(), entity, "{text}");
        }
    }

    #[test]
    fn the_context_knows_the_field_and_the_clauses() {
        let of = |text: &str| complete(text, text.len(), &schema()).context;
        let context = of("entity:User where:(name=x status !in (active,");
        assert_eq!((context.field.as_deref(), context.operator.as_deref()), (Some("status"), Some("!in")));
        assert_eq!(context.used, ["entity", "where"]);
        let context = of("order:name d");
        assert_eq!(context.field.as_deref(), Some("name"));
        assert_eq!(of("include:posts,").listed, ["posts"]);
    }

    #[test]
    fn suggestions_go_on_from_what_is_written() {
        let cases: [(&str, &[(&str, usize)]); 24] = [
            ("ent", &[("entity:", 3)]),
            ("entity:User w", &[("where:(", 1)]),
            ("entity:User where:(status!=active) l", &[("limit:", 1)]),
            ("entity:User entity:x e", &[]),
            ("entity:", &[("User", 0), ("Post", 0)]),
            ("entity:po", &[("Post", 2)]),
            ("entity:\"po", &[("Post", 3)]),
            ("entity:users order:n", &[("name", 1)]),
            (
                "entity:user order:age ",
                &[
                    ("asc", 0),
                    ("desc", 0),
                    ("limit:", 0),
                    ("include:", 0),
                    ("where:(", 0),
                    ("as_of:", 0),
                    ("known_at:", 0),
                    ("seq:", 0),
                    ("cursor:", 0),
                    ("fields:", 0),
                ],
            ),
            ("entity:user order:age de", &[("desc", 2)]),
            ("entity:user order:age,a", &[]),
            ("entity:User include:", &[("posts", 0), ("comments", 0)]),
            ("entity:Us include:posts,", &[("comments", 0)]),
            ("entity:User fields:status,st", &[("status_at", 2)]),
            ("entity:User where:(sta", &[("status", 3), ("status_at", 3)]),
            (
                "entity:User where:(live",
                &[
                    ("=", 0),
                    ("!=", 0),
                    ("<", 0),
                    ("<=", 0),
                    (">", 0),
                    (">=", 0),
                    ("~", 0),
                    ("^=", 0),
                    (" in (", 0),
                    (" !in (", 0),
                    (" is null", 0),
                    (" is not null", 0),
                ],
            ),
            ("entity:User where:(live !", &[("!=", 1), ("!in (", 1)]),
            ("entity:User where:(live is n", &[("is null", 4), ("is not null", 4)]),
            ("entity:User where:(status=", &[("active", 0), ("inactive", 0), ("\"on hold\"", 0)]),
            ("entity:User where:(status=\"on h", &[("\"on hold\"", 5)]),
            ("entity:User where:(status in (active,IN", &[("inactive", 2)]),
            (
                "entity:User where:(status i",
                &[("inactive", 1), ("in (", 1), ("is null", 1), ("is not null", 1)],
            ),
            ("entity:User where:(live=t", &[("true", 1)]),
            ("entity:User where:(name=", &[]),
        ];
        for (text, wanted) in cases {
            let suggestions = complete(text, text.len(), &schema()).suggestions;
            let found: Vec<_> = suggestions
                .iter()
                .map(|suggestion| (suggestion.insert.as_str(), suggestion.replace_bytes))
                .collect();
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn what_stands_behind_the_cursor_does_not_count() {
        let text = "entity:User limit:10";
        for (cursor, kind, count) in [
            (9, ContextKind::EntityValue, 1),
            (0, ContextKind::TopLevel, 10),
            (100, ContextKind::LimitValue, 2),
        ] {
            let completion = complete(text, cursor, &schema());
            assert_eq!((completion.context.kind, completion.suggestions.len()), (kind, count), "{cursor}");
        }
        assert_eq!(complete("entity:ü", 8, &schema()).context.partial, "");
        assert!(complete("entity:", 7, &SchemaShape::default()).suggestions.is_empty());
    }
}
