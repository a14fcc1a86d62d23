//! Lines of our own files that say whether they are whole: a JSON object whose last key is the hash of all before it.
//!
//! It knows nothing of what the lines are about.

use xxhash_rust::xxh64::xxh64;

/// What begins the last key. No string of ours contains it, so its last occurrence is the key.
const KEY: &str = ",\"check\":\"";

/// No number of a generation, an event or a byte comes near it, so that whoever adds a few of them need not fear an overflow. A file
/// that has a higher one is damaged, whatever its checksum says.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// The line of this object, with its newline: `{"a":1}` becomes `{"a":1,"check":"0123456789abcdef"}`.
///
/// # Panics
/// If it is not a JSON object with a key in it.
pub(crate) fn seal(object: &str) -> String {
    let body = object.strip_suffix('}').filter(|body| body.len() > 1).expect("an object with keys is sealed");
    format!("{body}{KEY}{:016x}\"}}\n", xxh64(body.as_bytes(), 0))
}

/// The object that was sealed into this line (with or without its newline), or nothing if not each byte is as it was.
pub(crate) fn unseal(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (body, rest) = line.split_at_checked(line.rfind(KEY)?)?;
    (rest == format!("{KEY}{:016x}\"}}", xxh64(body.as_bytes(), 0))).then(|| format!("{body}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_and_cut_of_a_sealed_line_is_seen() {
        let object = r#"{"generation":7,"hash":"00ff"}"#;
        let line = seal(object);
        assert_eq!(unseal(line.as_bytes()).as_deref(), Some(object));
        assert_eq!(unseal(line.trim_end().as_bytes()).as_deref(), Some(object));
        // The newline is no part of what is sealed.
        for at in 0..line.len() - 1 {
            for bit in 0..8 {
                let mut flipped = line.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                assert_eq!(unseal(&flipped), None, "byte {at}, bit {bit}");
            }
            assert_eq!(unseal(&line.as_bytes()[..at]), None, "cut at {at}");
        }
    }
}
