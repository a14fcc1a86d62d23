//! The hash of a line: xxh64 with seed 0, written as 16 hexadecimal digits.

use xxhash_rust::xxh64::xxh64;

/// The hash of a line without its newline: xxh64 with seed 0, as 16 lower-case hexadecimal digits.
///
/// ```
/// assert_eq!(keplordb_fold::line_hash(b"hello world"), "45ab6734b21e6968");
/// ```
pub fn line_hash(line: &[u8]) -> String {
    format!("{:016x}", xxh64(line, 0))
}

#[cfg(test)]
mod tests {
    use super::line_hash;

    #[test]
    fn hashes_are_those_that_directories_have() {
        for (line, hash) in [
            (&b""[..], "ef46db3751d8e999"),
            (b"hello world", "45ab6734b21e6968"),
            (br#"{"type":"a","data":{"key":"value"},"ts":1000}"#, "37c4e30f3f71c780"),
        ] {
            assert_eq!(line_hash(line), hash);
        }
    }
}
