//! The custom schema: which entity types there are and what their fields are, in versions that are kept.
//!
//! A schema is one `.proto` file; each of its top-level messages is an entity type. An event is read by the version in force when it
//! came in, so every version that ever was stays in `_meta/schemas`. A new version may add and remove; a field keeps its
//! name, number and kind for ever, because the log keeps what was captured by its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keplordb_disk::{Disk as _, Entry, RealDisk, read_all, replace};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, Value};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::error::ServerError;
use crate::layout;
use crate::name::check_type;

/// What a schema imports to say what its fields refer to.
const OPTIONS: &str = include_str!("../proto/options.proto");
const PACKAGE: &str = "reflog.v1";
/// What the file is called in messages of the compiler.
const FILE: &str = "custom.proto";

/// Longest text of a schema, in bytes.
const MAX_TEXT_BYTES: u64 = 4 << 20;

/// A version of the custom schema.
#[derive(Debug, Clone)]
pub struct Schema {
    /// From 1.
    version: u32,
    text: Arc<str>,
    types: BTreeMap<String, EntityType>,
}

/// An entity type of a schema.
#[derive(Debug, Clone)]
pub struct EntityType {
    message: MessageDescriptor,
    /// By the field's number.
    references: BTreeMap<u32, Reference>,
}

/// What a field refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// The other entity type.
    pub entity_type: String,
    /// Its field.
    pub field: String,
    /// `many_to_one`, `one_to_many`, `many_to_many`, `one_to_one`, or nothing where it is not said.
    pub relationship: String,
}

/// A field of an entity type, or of a message within it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its number, behind those of the fields that lead to it: what it is known by for ever.
    pub numbers: Vec<u32>,
    /// Its name, likewise: `address.city`.
    pub path: String,
    /// What it holds, in the words of the schema: `repeated string`.
    pub kind: String,
}

impl Schema {
    /// Compiles a schema; `file` is what messages call it.
    ///
    /// # Errors
    /// [`Schema`](ServerError::Schema) with the line and what is wrong.
    pub fn compile(file: &Path, version: u32, text: &str) -> Result<Self, ServerError> {
        let illegal = |what: String| ServerError::Schema { file: file.to_owned(), what };
        let pool = pool_of(text).map_err(|error| illegal(format!("{error:#}")))?;
        let compiled = pool.get_file_by_name(FILE).ok_or_else(|| illegal("it is empty".to_owned()))?;
        if compiled.package_name() != PACKAGE {
            return Err(illegal(format!(
                "its package is {:?}; write `package {PACKAGE};`",
                compiled.package_name()
            )));
        }
        let mut types: BTreeMap<String, EntityType> = BTreeMap::new();
        for message in compiled.messages() {
            let name = message.name().to_owned();
            check_type(&name).map_err(|refused| illegal(refused.to_string()))?;
            if let Some(other) = types.keys().find(|other| other.eq_ignore_ascii_case(&name)) {
                return Err(illegal(format!(
                    "{other} and {name} differ in case only; files and tables need more"
                )));
            }
            let references = references_of(&pool, &message).map_err(illegal)?;
            types.insert(name, EntityType { message, references });
        }
        if types.is_empty() {
            return Err(illegal("it has no message; each top-level message is an entity type".to_owned()));
        }
        let schema = Self { version, text: text.into(), types };
        schema.check_references().map_err(illegal)?;
        Ok(schema)
    }

    /// From 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The text of its file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of the entity types, sorted.
    pub fn types(&self) -> impl ExactSizeIterator<Item = &str> {
        self.types.keys().map(String::as_str)
    }

    /// An entity type by its name, which counts in upper and lower case.
    pub fn get(&self, name: &str) -> Option<&EntityType> {
        self.types.get(name)
    }

    /// Refuses a schema whose fields have numbers that mean something else here.
    ///
    /// # Errors
    /// What differs.
    pub fn check_follows(&self, older: &Self) -> Result<(), String> {
        for (name, entity) in &older.types {
            let Some(now) = self.types.get(name) else { continue };
            check_message(&entity.message, &now.message, &mut Vec::new()).map_err(|what| {
                format!(
                    "{what}; version {} has it otherwise: take a name and a number that were never used",
                    older.version
                )
            })?;
        }
        Ok(())
    }

    fn check_references(&self) -> Result<(), String> {
        for (name, entity) in &self.types {
            for (number, reference) in &entity.references {
                let field = entity
                    .message
                    .get_field(*number)
                    .map_or_else(String::new, |field| field.name().to_owned());
                let Some(target) = self.types.get(&reference.entity_type) else {
                    return Err(format!(
                        "{name}.{field} refers to {}, which is no entity type",
                        reference.entity_type
                    ));
                };
                if reference.field != "id" && target.message.get_field_by_name(&reference.field).is_none() {
                    return Err(format!(
                        "{name}.{field} refers to {}.{}, and {0} has no such field",
                        reference.entity_type, reference.field
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Schema {
    /// Writes its text into a directory, under its version's name.
    fn write(&self, dir: &Path) -> Result<(), ServerError> {
        let path = path_of(dir, self.version());
        let written = replace(&RealDisk, &path, self.text().as_bytes());
        written.map_err(|source| ServerError::Io { file: path, op: "writing", source })
    }
}

impl EntityType {
    pub(crate) fn message(&self) -> &MessageDescriptor {
        &self.message
    }

    /// Its fields in the order of their numbers, and behind each message of its own that message's. A message within itself is
    /// not entered.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        add_fields(&self.message, None, &mut vec![self.message.full_name().to_owned()], &mut fields);
        fields
    }

    /// What its fields refer to, by their names.
    pub fn references(&self) -> impl Iterator<Item = (String, &Reference)> {
        self.references.iter().filter_map(|(number, reference)| {
            Some((self.message.get_field(*number)?.name().to_owned(), reference))
        })
    }
}

/// The versions of a server's schema, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Schemas {
    versions: Vec<Arc<Schema>>,
}

impl Schemas {
    /// Reads the versions that a directory has.
    pub(crate) fn load(dir: &Path) -> Result<Self, ServerError> {
        let mut schemas = Self::default();
        for version in 1.. {
            let file = path_of(dir, version);
            let Some(text) = read_whole(&file)? else { break };
            schemas.versions.push(Arc::new(Schema::compile(&file, version, &text)?));
        }
        // Without one of them the numbers of the later ones would be given anew.
        let lost = |source| ServerError::Io { file: dir.to_owned(), op: "listing", source };
        let is_schema = |entry: &Entry| Path::new(&entry.name).extension().is_some_and(|end| end == "proto");
        let files = RealDisk.list(dir).map_err(lost)?.iter().filter(|entry| is_schema(entry)).count();
        if files > schemas.versions.len() {
            let file = path_of(dir, schemas.versions.last().map_or(1, |newest| newest.version() + 1));
            let what = "it is missing, and later versions are there; restore it from a copy".to_owned();
            return Err(ServerError::Schema { file, what });
        }
        Ok(schemas)
    }

    /// Reads the versions that a root has, also beside its server.
    ///
    /// # Errors
    /// [`NoRoot`](ServerError::NoRoot) for a directory that no server has made; [`Schema`](ServerError::Schema) and
    /// [`Io`](ServerError::Io) for what is in it.
    pub fn beside(root: impl AsRef<Path>) -> Result<Self, ServerError> {
        let root = root.as_ref();
        if !layout::is_root(root) {
            return Err(ServerError::NoRoot { dir: root.to_owned() });
        }
        Self::load(&layout::schemas(root))
    }

    /// The version that a file would become, which changes nothing; where its text is that of the newest one, that.
    ///
    /// # Errors
    /// [`Schema`](ServerError::Schema) says what is wrong with it, or what it would break.
    pub fn check(&self, file: &Path, text: &str) -> Result<Arc<Schema>, ServerError> {
        if let Some(newest) = self.versions.last().filter(|newest| newest.text() == text) {
            return Ok(Arc::clone(newest));
        }
        if text.len() as u64 > MAX_TEXT_BYTES {
            let what = format!("it has {} bytes, at most {MAX_TEXT_BYTES} are possible", text.len());
            return Err(ServerError::Schema { file: file.to_owned(), what });
        }
        let version = self.versions.last().map_or(1, |newest| newest.version() + 1);
        let schema = Schema::compile(file, version, text)?;
        for older in &self.versions {
            schema
                .check_follows(older)
                .map_err(|what| ServerError::Schema { file: file.to_owned(), what })?;
        }
        Ok(Arc::new(schema))
    }

    /// Takes a schema as the newest version, unless it is that already; on disk on return.
    pub(crate) fn push(&mut self, dir: &Path, file: &Path, text: &str) -> Result<Arc<Schema>, ServerError> {
        let schema = self.check(file, text)?;
        if self.version(schema.version()).is_none() {
            schema.write(dir)?;
            self.versions.push(Arc::clone(&schema));
        }
        Ok(schema)
    }

    /// Writes all of them into a directory that has none.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), ServerError> {
        self.versions.iter().try_for_each(|schema| schema.write(dir))
    }

    /// The one by which new events are read; `None` where any type is taken.
    pub fn newest(&self) -> Option<&Arc<Schema>> {
        self.versions.last()
    }

    /// The version with this number.
    pub fn version(&self, version: u32) -> Option<&Arc<Schema>> {
        self.versions.get((version as usize).checked_sub(1)?)
    }

    /// All versions, oldest first.
    pub fn all(&self) -> &[Arc<Schema>] {
        &self.versions
    }
}

fn path_of(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("{version:06}.proto"))
}

/// The text of a file; `None` where there is none.
pub(crate) fn read_whole(path: &Path) -> Result<Option<String>, ServerError> {
    let bytes = match read_all(&RealDisk, path, MAX_TEXT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ServerError::Io { file: path.to_owned(), op: "reading", source }),
    };
    let illegal = |error: std::string::FromUtf8Error| ServerError::Schema {
        file: path.to_owned(),
        what: format!("it is no text: {error}"),
    };
    String::from_utf8(bytes).map(Some).map_err(illegal)
}

/// The schema, what it may import, and nothing of the machine's files.
struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            FILE => File::from_source(FILE, &self.0),
            "options.proto" => File::from_source("options.proto", OPTIONS),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn pool_of(text: &str) -> Result<DescriptorPool, protox::Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(GoogleFileResolver::new());
    resolver.add(Text(text.to_owned()));
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.open_file(FILE)?;
    Ok(compiler.descriptor_pool())
}

fn references_of(
    pool: &DescriptorPool,
    message: &MessageDescriptor,
) -> Result<BTreeMap<u32, Reference>, String> {
    let extension = |name: &str| pool.get_extension_by_name(&format!("{PACKAGE}.{name}"));
    let (Some(key), Some(relationship)) = (extension("foreign_key"), extension("relationship_type")) else {
        return Ok(BTreeMap::new());
    };
    let mut references = BTreeMap::new();
    for field in message.fields() {
        let options = field.options();
        if !options.has_extension(&key) {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = text(&options.get_extension(&key));
        let Some((entity_type, target_field)) = target.split_once('.') else {
            return Err(format!(
                "{}: the foreign key {target:?} is not like \"Type.field\"",
                field.full_name()
            ));
        };
        let reference = Reference {
            entity_type: entity_type.to_owned(),
            field: target_field.to_owned(),
            relationship: text(&options.get_extension(&relationship)),
        };
        references.insert(field.number(), reference);
    }
    Ok(references)
}

/// Adds the fields of a message to those of the type that it is in; `within` are the messages around it, and itself.
fn add_fields(
    message: &MessageDescriptor,
    outer: Option<&Field>,
    within: &mut Vec<String>,
    fields: &mut Vec<Field>,
) {
    for descriptor in message.fields() {
        let (numbers, before) = outer.map_or((&[][..], ""), |outer| (&outer.numbers, &outer.path));
        let field = Field {
            numbers: [numbers, &[descriptor.number()]].concat(),
            path: if before.is_empty() {
                descriptor.name().to_owned()
            } else {
                format!("{before}.{}", descriptor.name())
            },
            kind: words(&descriptor),
        };
        fields.push(field.clone());
        if let Kind::Message(inner) = descriptor.kind()
            && !descriptor.is_map()
            && inner.package_name() == PACKAGE
            && !within.iter().any(|name| name == inner.full_name())
        {
            within.push(inner.full_name().to_owned());
            add_fields(&inner, Some(&field), within, fields);
            within.pop();
        }
    }
}

/// What a field holds as the schema writes it.
fn words(field: &FieldDescriptor) -> String {
    let name = |kind: Kind| match kind {
        Kind::Message(message) => {
            message.full_name().trim_start_matches(PACKAGE).trim_start_matches('.').to_owned()
        }
        Kind::Enum(values) => {
            values.full_name().trim_start_matches(PACKAGE).trim_start_matches('.').to_owned()
        }
        kind => format!("{kind:?}").to_lowercase(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => format!(
            "map<{}, {}>",
            name(entry.map_entry_key_field().kind()),
            name(entry.map_entry_value_field().kind())
        ),
        kind if field.is_list() => format!("repeated {}", name(kind)),
        kind => name(kind),
    }
}

/// Whether what both have is the same field: the log keeps fields by their names, clients send them by their numbers. `seen` are messages
/// that were compared already.
fn check_message(
    older: &MessageDescriptor,
    newer: &MessageDescriptor,
    seen: &mut Vec<(String, String)>,
) -> Result<(), String> {
    let mut left = vec![(older.clone(), newer.clone())];
    while let Some((older, newer)) = left.pop() {
        let both = (older.full_name().to_owned(), newer.full_name().to_owned());
        if seen.contains(&both) {
            continue;
        }
        seen.push(both);
        for field in older.fields() {
            let of_number = newer.get_field(field.number());
            let of_name = newer.get_field_by_name(field.name());
            for now in of_number.iter().chain(&of_name) {
                if now.number() != field.number() || now.name() != field.name() || shape(&field) != shape(now)
                {
                    return Err(format!(
                        "{}.{} has number {} as {}, which was {} with number {} as {}",
                        newer.name(),
                        now.name(),
                        now.number(),
                        shape(now),
                        field.name(),
                        field.number(),
                        shape(&field)
                    ));
                }
                if let (Kind::Message(older), Kind::Message(newer)) = (field.kind(), now.kind()) {
                    left.push((older, newer));
                }
            }
        }
    }
    Ok(())
}

/// What a field is, in words; a message's name may change.
fn shape(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(message) if message.full_name().starts_with("google.") => {
            message.full_name().to_owned()
        }
        Kind::Message(_) => "message".to_owned(),
        Kind::Enum(_) => "enum".to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let many = if field.is_map() {
        "map of "
    } else if field.is_list() {
        "repeated "
    } else {
        ""
    };
    many.to_owned() + &kind
}
