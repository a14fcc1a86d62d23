//! The keys of a root: who may do what. The file has their hashes only, so whoever reads it can do nothing with it.
//!
//! A key is 256 random bits, which a person sees once. Its name is who sends: with keys it stands in every event as its client.
//! One that is revoked stays in the list, so that a root that ever had keys asks for one for ever.

mod rate;
mod ring;
mod secret;

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use keplordb_disk::{Disk as _, LockError, RealDisk, read_all, replace};
use serde::{Deserialize, Serialize};

// By its path from here: a crate that is used is called so too.
pub(crate) use self::ring::{Found, Ring};
pub use self::secret::Secret;

use crate::error::ServerError;
use crate::layout;
use crate::name::{check_type, shown};

/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most keys of a root, revoked ones too: each request is compared with all of them.
const KEYS_MAX: usize = 1000;
/// Most types of a key.
const TYPES_MAX: usize = 100;
/// Largest file of keys, in bytes: what so many keys with so many types can have, and a limit on what a wrong file makes us read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Version of the file.
const FILE_VERSION: u32 = 1;
/// Hexadecimal digits of a key's id: the first of its hash.
const ID_DIGITS: usize = 12;

/// What a key is good for. None includes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// To send events.
    Ingest,
    /// To see events and entities.
    Read,
    /// To push schemas.
    Admin,
    /// To see the metrics, and nothing else.
    Metrics,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Admin, Self::Metrics];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("{} is no scope; there are {}", shown(text), names(&Self::ALL)))
    }
}

/// Scopes as a message lists them.
pub(crate) fn names(scopes: &[Scope]) -> String {
    let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
    names.join(", ")
}

/// A key, as it is kept: without the text that a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Key {
    /// Its own number, by which it can be revoked where others have its name.
    pub id: String,
    /// Who has it; the client of the events that are sent with it.
    pub name: String,
    /// What it is good for.
    pub scopes: Vec<Scope>,
    /// For these types of entities: names, and beginnings of names that end in `*`. For all where there is none.
    #[serde(default)]
    pub types: Vec<String>,
    /// How many requests a second, in the long run; within a second so many may come at once. Any number where it is not said. A batch is
    /// one, and so is each batch of a stream, beside the stream itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<NonZeroU32>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is good for nothing.
    pub expires: Option<Timestamp>,
    /// When it was taken back.
    pub revoked: Option<Timestamp>,
    /// SHA-256 of the text that a client sends.
    hash: secret::Hash,
}

impl Key {
    /// Whether it is good for something at a time.
    pub fn is_good_at(&self, time: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| time < expires)
    }

    /// Whether it is for entities of a type.
    pub fn is_for(&self, entity_type: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|of_key| matches(of_key, entity_type))
    }
}

/// Whether a name of a type, or the beginning of one, means a type.
fn matches(of_key: &str, entity_type: &str) -> bool {
    match of_key.strip_suffix('*') {
        Some(begin) => entity_type.starts_with(begin),
        None => entity_type == of_key,
    }
}

/// What a new key is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewKey {
    /// Who gets it: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it is good for; at least one.
    pub scopes: Vec<Scope>,
    /// For which types of entities; for all where there is none.
    pub types: Vec<String>,
    /// How many requests a second; see [`Key::rate`].
    pub rate: Option<NonZeroU32>,
    /// From when on it is good for nothing; never where that is not said.
    pub expires: Option<Timestamp>,
}

impl NewKey {
    fn check(&self, now: Timestamp) -> Result<(), String> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(is_plain) {
            return Err(format!(
                "{} is no name of a key: 1 to {NAME_BYTES_MAX} letters, digits, -, _ and . are",
                shown(&self.name)
            ));
        }
        if self.scopes.is_empty() {
            return Err(format!(
                "a key without a scope is good for nothing; give one of {}",
                names(&Scope::ALL)
            ));
        }
        if self.types.len() > TYPES_MAX {
            return Err(format!("a key has at most {TYPES_MAX} types; use beginnings of names, as Order*"));
        }
        for of_key in &self.types {
            let begin = of_key.strip_suffix('*').unwrap_or(of_key);
            check_type(begin).map_err(|refused| format!("{refused}, or the beginning of one and *"))?;
        }
        if !self.types.is_empty() && self.scopes.contains(&Scope::Admin) {
            return Err("a schema is of all types, so a key for some of them cannot be an admin's".to_owned());
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err("it would have expired already; give a later time".to_owned());
        }
        Ok(())
    }
}

/// The keys of a root, as its file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    keys: Vec<Key>,
}

impl Keys {
    /// The keys of a root; none where it has no file of them.
    ///
    /// # Errors
    /// [`Keys`](ServerError::Keys) for a file that is none, or that everybody may read or change; [`Io`](ServerError::Io) when it cannot be read.
    pub fn load(root: impl AsRef<Path>) -> Result<Self, ServerError> {
        let file = layout::keys(root.as_ref());
        match bytes_of(&file)? {
            Some(bytes) => Self::parse(&file, &bytes),
            None => Ok(Self::default()),
        }
    }

    /// The file of a root's keys, which need not be there.
    pub fn file(root: impl AsRef<Path>) -> PathBuf {
        layout::keys(root.as_ref())
    }

    /// All of them, revoked ones too, in the order in which they were made.
    pub fn all(&self) -> &[Key] {
        &self.0
    }

    /// Makes a key, and the root where there is none yet. The secret is nowhere else: whoever is not told it now never is.
    ///
    /// # Errors
    /// [`Keys`](ServerError::Keys) says what is wrong with what is asked for; [`Io`](ServerError::Io) when the file cannot be written.
    pub fn add(root: impl AsRef<Path>, new: NewKey) -> Result<(Key, Secret), ServerError> {
        let now = Timestamp::now();
        change(root.as_ref(), |keys, refused| {
            new.check(now).map_err(refused)?;
            // Those that are good for nothing any more make room, the oldest first.
            if keys.len() >= KEYS_MAX
                && let Some(at) = keys.iter().position(|key| !key.is_good_at(now))
            {
                keys.remove(at);
            }
            if keys.len() >= KEYS_MAX {
                return Err(refused(format!(
                    "there are {KEYS_MAX} good keys, which is as many as may be; take back what nobody uses"
                )));
            }
            let secret = Secret::random().map_err(refused)?;
            let hash = secret::Hash::of(secret.expose());
            let mut id = hash.to_string();
            id.truncate(ID_DIGITS);
            let NewKey { name, scopes, types, rate, expires } = new;
            let key = Key { id, name, scopes, types, rate, created: now, expires, revoked: None, hash };
            keys.push(key.clone());
            Ok((key, secret))
        })
    }

    /// Takes back the key with this id, or all that have this name; gives those that were good until now.
    ///
    /// # Errors
    /// [`Keys`](ServerError::Keys) where there is none; [`Io`](ServerError::Io) when the file cannot be written.
    pub fn revoke(root: impl AsRef<Path>, name_or_id: &str) -> Result<Vec<Key>, ServerError> {
        let now = Timestamp::now();
        change(root.as_ref(), |keys, refused| {
            let is_id = keys.iter().any(|key| key.id == name_or_id);
            let is_meant = |key: &Key| if is_id { key.id == name_or_id } else { key.name == name_or_id };
            if !keys.iter().any(is_meant) {
                let why = format!("there is no key {}; `keplor keys ls` lists them", shown(name_or_id));
                return Err(refused(why));
            }
            let mut revoked = Vec::new();
            for key in keys.iter_mut().filter(|key| key.revoked.is_none()) {
                if is_meant(key) {
                    key.revoked = Some(now);
                    revoked.push(key.clone());
                }
            }
            Ok(revoked)
        })
    }

    fn parse(file: &Path, bytes: &[u8]) -> Result<Self, ServerError> {
        let refused = |what: String| ServerError::Keys { file: file.to_owned(), what };
        // What the parser says of a text may show some of it; where it stopped is enough.
        let read: File = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refused(format!(
                "it is no list of keys from line {line}, column {column} on; restore it from a copy"
            ))
        })?;
        if read.version != FILE_VERSION {
            let version = read.version;
            return Err(refused(format!("it has version {version}; this program reads {FILE_VERSION}")));
        }
        Ok(Self(read.keys))
    }
}

/// Changes the file of keys, with nobody else at it.
fn change<T>(
    root: &Path,
    change: impl FnOnce(&mut Vec<Key>, &dyn Fn(String) -> ServerError) -> Result<T, ServerError>,
) -> Result<T, ServerError> {
    let file = layout::keys(root);
    let io = |file: &Path, op: &'static str| {
        let file = file.to_owned();
        move |source: io::Error| ServerError::Io { file, op, source }
    };
    let refused = |what: String| ServerError::Keys { file: file.clone(), what };
    let dir = layout::meta(root);
    RealDisk.create_dir(&dir).map_err(io(&dir, "creating"))?;
    let lock = layout::keys_lock(root);
    let _held = RealDisk.lock(&lock).map_err(|error| match error {
        LockError::Io(source) => io(&lock, "locking")(source),
        held @ LockError::Held { .. } => refused(format!("{held}; try again when it is done")),
    })?;
    let mut keys = Keys::load(root)?;
    let changed = change(&mut keys.0, &refused)?;
    let written = serde_json::to_vec_pretty(&File { version: FILE_VERSION, keys: keys.0 });
    let written = written.map_err(|error| refused(error.to_string()))?;
    replace(&RealDisk, &file, &written).map_err(io(&file, "writing"))?;
    // A server of another user could not read it, and would go on with the keys that it has.
    for made in [&file, &lock] {
        RealDisk.own_like(made, &dir).map_err(io(made, "giving to the owner of the root"))?;
    }
    Ok(changed)
}

/// Copies the keys of a root into a directory, where it has some.
pub(crate) fn copy(root: &Path, dir: &Path) -> Result<(), ServerError> {
    let file = layout::keys(root);
    let (Some(bytes), Some(name)) = (bytes_of(&file)?, file.file_name()) else { return Ok(()) };
    let copy = dir.join(name);
    replace(&RealDisk, &copy, &bytes).map_err(|source| ServerError::Io { file: copy, op: "writing", source })
}

/// The file's bytes; `None` where there is none.
fn bytes_of(file: &Path) -> Result<Option<Vec<u8>>, ServerError> {
    match read_all(&RealDisk, file, FILE_BYTES_MAX) {
        Ok(bytes) => {
            check_private(file).map_err(|what| ServerError::Keys { file: file.to_owned(), what })?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ServerError::Io { file: file.to_owned(), op: "reading", source }),
    }
}

/// That not everybody on this machine may read or change a file.
pub(crate) fn check_private(file: &Path) -> Result<(), String> {
    match RealDisk.mode(file).map_err(|error| error.to_string())? {
        Some(mode) if mode & 0o007 != 0 => Err(format!(
            "everybody on this machine may use it (mode {mode:o}); `chmod 600` lets its owner only"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, scopes: &[Scope]) -> NewKey {
        NewKey { name: name.to_owned(), scopes: scopes.to_vec(), ..NewKey::default() }
    }

    #[test]
    fn a_key_is_kept_without_its_secret_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let (key, secret) = Keys::add(dir.path(), new("shop", &[Scope::Ingest])).unwrap();
        let (other, _) = Keys::add(dir.path(), new("shop", &[Scope::Read])).unwrap();
        assert_ne!(key.id, other.id);
        let file = layout::keys(dir.path());
        let text = String::from_utf8(bytes_of(&file).unwrap().unwrap()).unwrap();
        assert!(!text.contains(secret.expose()), "{text}");
        assert_eq!(Keys::load(dir.path()).unwrap().all(), [key.clone(), other.clone()]);

        assert_eq!(Keys::revoke(dir.path(), &key.id).unwrap().len(), 1);
        let revoked = Keys::revoke(dir.path(), "shop").unwrap();
        assert_eq!(revoked.iter().map(|key| &key.id).collect::<Vec<_>>(), [&other.id]);
        let now = Timestamp::now();
        assert!(Keys::load(dir.path()).unwrap().all().iter().all(|key| !key.is_good_at(now)));
        let error = Keys::revoke(dir.path(), "stock").unwrap_err().to_string();
        assert!(error.contains("there is no key \"stock\""), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let with = |types: &[&str], scopes: &[Scope]| NewKey {
            types: types.iter().map(|of_key| (*of_key).to_owned()).collect(),
            ..new("shop", scopes)
        };
        let cases = [
            (new("", &[Scope::Read]), "is no name of a key"),
            (new("a b", &[Scope::Read]), "is no name of a key"),
            (new("a\nb", &[Scope::Read]), "is no name of a key"),
            (new("shop", &[]), "good for nothing"),
            (with(&["../a"], &[Scope::Read]), "is no name of a type"),
            (with(&["*"], &[Scope::Read]), "is no name of a type"),
            (with(&["User"], &[Scope::Admin]), "cannot be an admin's"),
            (
                NewKey { expires: Some(Timestamp::UNIX_EPOCH), ..new("shop", &[Scope::Read]) },
                "expired already",
            ),
        ];
        for (new, why) in cases {
            let error = Keys::add(dir.path(), new.clone()).unwrap_err().to_string();
            assert!(error.contains(why), "{new:?}: {error}");
        }
        assert_eq!(Keys::load(dir.path()).unwrap(), Keys::default());
    }

    #[test]
    fn a_key_is_for_the_types_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let types = vec!["User".to_owned(), "Order*".to_owned()];
        let (key, _) = Keys::add(dir.path(), NewKey { types, ..new("shop", &[Scope::Read]) }).unwrap();
        for entity_type in ["User", "Order", "OrderItem"] {
            assert!(key.is_for(entity_type), "{entity_type}");
        }
        for entity_type in ["Users", "user", "MyOrder", "", "*"] {
            assert!(!key.is_for(entity_type), "{entity_type}");
        }
    }

    #[cfg(unix)]
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test spoils the file, as a person would")]
    fn a_file_that_everybody_may_read_or_that_is_damaged_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        Keys::add(dir.path(), new("shop", &[Scope::Ingest])).unwrap();
        let file = layout::keys(dir.path());
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        mode(0o644);
        let error = Keys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mode 644"), "{error}");
        mode(0o600);
        std::fs::write(&file, br#"{"version": 1, "keys": [{"canary": 1}]}"#).unwrap();
        let error = Keys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("it is no list of keys") && !error.contains("canary"), "{error}");
    }
}
