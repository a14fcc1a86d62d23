//! The keys as a running server sees them: read again when their file changes, so that one that is revoked is refused soon, without a
//! restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use super::rate::Rates;
use super::secret::{Hash, TEXT_BYTES_MAX};
use super::{Key, Keys, bytes_of};
use crate::error::ServerError;
use crate::layout;

/// The keys of a root while it is served.
#[derive(Debug)]
pub(crate) struct Ring {
    file: PathBuf,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What the file was when it was last read, to see whether it is another one.
    seen: Option<Vec<u8>>,
    keys: Vec<Arc<Key>>,
    rates: Rates,
    /// Whether a key was ever needed; from then on it is, whatever becomes of the file.
    is_asking: bool,
}

/// Whose a text is.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Of a key that is good.
    Good(Arc<Key>),
    /// Of one that is good no more.
    Expired(Arc<Key>),
    /// Of one that was taken back.
    Revoked(Arc<Key>),
    /// Of none.
    Unknown,
}

impl Ring {
    /// The keys of a root as they are now.
    pub(crate) fn open(root: &Path) -> Result<Self, ServerError> {
        let ring = Self { file: layout::keys(root), held: RwLock::default() };
        ring.refresh()?;
        Ok(ring)
    }

    /// Reads the file again where it has changed; says whether it has. After an error the keys are what they were, and requests need one:
    /// there is a file.
    pub(crate) fn refresh(&self) -> Result<bool, ServerError> {
        let bytes = bytes_of(&self.file).inspect_err(|_| self.ask())?;
        if bytes == self.held.read().unwrap_or_else(PoisonError::into_inner).seen {
            return Ok(false);
        }
        let keys =
            bytes.as_deref().map_or_else(|| Ok(Keys::default()), |bytes| Keys::parse(&self.file, bytes));
        let keys = keys.inspect_err(|_| self.ask())?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.is_asking |= !keys.0.is_empty();
        let Held { keys: of_file, rates, .. } = &mut *held;
        *of_file = keys.0.into_iter().map(Arc::new).collect();
        rates.follow(of_file);
        held.seen = bytes;
        Ok(true)
    }

    fn ask(&self) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).is_asking = true;
    }

    /// Whether requests need a key.
    pub(crate) fn is_asking(&self) -> bool {
        self.held.read().unwrap_or_else(PoisonError::into_inner).is_asking
    }

    /// Whether somebody could be let in.
    pub(crate) fn has_good_ones(&self) -> bool {
        let now = Timestamp::now();
        self.held.read().unwrap_or_else(PoisonError::into_inner).keys.iter().any(|key| key.is_good_at(now))
    }

    /// Whose a text is. All keys are looked at, whichever it is, so the time tells nothing.
    pub(crate) fn find(&self, text: &str) -> Found {
        if text.len() > TEXT_BYTES_MAX {
            return Found::Unknown;
        }
        let hash = Hash::of(text);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for key in &held.keys {
            if bool::from(key.hash.is(&hash)) {
                found = Some(key);
            }
        }
        let Some(key) = found.cloned() else { return Found::Unknown };
        if key.revoked.is_some() {
            Found::Revoked(key)
        } else if key.is_good_at(Timestamp::now()) {
            Found::Good(key)
        } else {
            Found::Expired(key)
        }
    }

    /// Counts a request of a key; or says how long it is until it may ask again.
    pub(crate) fn turn(&self, key: &Key) -> Result<(), Duration> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).rates.turn(key)
    }

    /// Whether a key that was good still is.
    pub(crate) fn is_still_good(&self, key: &Key) -> bool {
        let now = Timestamp::now();
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let is_it = |other: &Arc<Key>| bool::from(other.id.as_bytes().ct_eq(key.id.as_bytes()));
        held.keys.iter().any(|other| is_it(other) && other.hash == key.hash && other.is_good_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{NewKey, Scope};

    fn new(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), scopes: vec![Scope::Read], ..NewKey::default() }
    }

    #[test]
    fn a_revoked_key_is_refused_after_the_file_was_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let ring = Ring::open(dir.path()).unwrap();
        assert!(!ring.is_asking() && matches!(ring.find(""), Found::Unknown));
        let (key, secret) = Keys::add(dir.path(), new("shop")).unwrap();
        assert!(ring.refresh().unwrap() && !ring.refresh().unwrap());
        assert!(ring.is_asking() && ring.has_good_ones());
        assert!(matches!(ring.find(secret.expose()), Found::Good(found) if found.name == "shop"));
        assert!(matches!(ring.find(&secret.expose()[1..]), Found::Unknown));
        assert!(matches!(ring.find(&"x".repeat(1 << 20)), Found::Unknown));
        Keys::revoke(dir.path(), "shop").unwrap();
        ring.refresh().unwrap();
        assert!(matches!(ring.find(secret.expose()), Found::Revoked(_)));
        assert!(!ring.is_still_good(&key) && !ring.has_good_ones());
        assert!(ring.is_asking(), "a root that had keys asks for one");
    }

    #[test]
    fn a_key_asks_as_often_as_it_may_also_when_the_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let rate = std::num::NonZeroU32::new(2);
        let (slow, _) = Keys::add(dir.path(), NewKey { rate, ..new("slow") }).unwrap();
        let (free, _) = Keys::add(dir.path(), new("free")).unwrap();
        let ring = Ring::open(dir.path()).unwrap();
        assert_eq!((ring.turn(&slow), ring.turn(&slow)), (Ok(()), Ok(())));
        Keys::revoke(dir.path(), "free").unwrap();
        assert!(ring.refresh().unwrap());
        // What half a second gives back is not there yet.
        let wait = ring.turn(&slow).unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        assert!((0..1000).all(|_| ring.turn(&free).is_ok()));
        std::thread::sleep(wait);
        assert_eq!(ring.turn(&slow), Ok(()));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test spoils the file, as a person would")]
    fn what_becomes_of_the_file_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (_, secret) = Keys::add(dir.path(), new("shop")).unwrap();
        let ring = Ring::open(dir.path()).unwrap();
        let file = layout::keys(dir.path());
        let whole = bytes_of(&file).unwrap().unwrap();
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert!(ring.refresh().is_err());
        assert!(matches!(ring.find(secret.expose()), Found::Good(_)), "a damaged file changes nothing");
        std::fs::remove_file(&file).unwrap();
        assert!(ring.refresh().unwrap());
        assert!(ring.is_asking() && matches!(ring.find(secret.expose()), Found::Unknown));

        // Nor where the first key cannot be read.
        let ring = Ring::open(dir.path()).unwrap();
        assert!(!ring.is_asking());
        std::fs::write(&file, "{").unwrap();
        assert!(ring.refresh().is_err() && ring.is_asking());
    }
}
