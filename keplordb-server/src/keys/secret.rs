//! The text of a key, and the hash that is kept of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::{Choice, ConstantTimeEq};

/// What every key begins with, so that people and programs that look for leaked ones know it.
const PREFIX: &str = "keplor_key_";
/// Random bytes of a key.
const RANDOM_BYTES: usize = 32;
/// Longest text that is looked at as one, in bytes; a longer one is none.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// The text of a key, which a client sends. It is shown where [`expose`](Self::expose) is called, and nowhere else.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A new one, of the operating system's random numbers.
    pub(super) fn random() -> Result<Self, String> {
        let mut random = [0; RANDOM_BYTES];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| "the operating system gives no random numbers; see to /dev/urandom".to_owned())?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}…")
    }
}

/// SHA-256 of a key's text. The text has 256 random bits, so nothing slower is needed: there is nothing to guess.
#[derive(Clone, Copy)]
pub(super) struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    pub(super) fn of(text: &str) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether they are equal, in a time that does not tell where they differ.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Hash {
    fn eq(&self, other: &Self) -> bool {
        self.is(other).into()
    }
}

impl Eq for Hash {}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:…")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("a hash has 64 hexadecimal digits");
        if text.len() != 2 * SHA256_OUTPUT_LEN || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognized_differ_and_hide_themselves() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert!(
            one.expose().starts_with(PREFIX) && one.expose().len() == PREFIX.len() + 43,
            "{}",
            one.expose()
        );
        assert_ne!(one.expose(), other.expose());
        assert_eq!(format!("{one:?}"), "keplor_key_…");
    }

    #[test]
    fn a_hash_is_that_of_the_standard_and_comes_back_from_its_text() {
        let hash = Hash::of("abc");
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), known);
        assert_eq!(serde_json::from_str::<Hash>(&format!("{known:?}")).unwrap(), hash);
        for wrong in ["\"\"", "\"ba\"", &format!("\"{}\"", "é".repeat(32)), "7"] {
            assert!(serde_json::from_str::<Hash>(wrong).is_err(), "{wrong}");
        }
    }
}
