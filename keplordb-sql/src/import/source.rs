//! The bytes of a source: from a plain or a compressed file, from any place on, with what tells it from another one.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3Default;

use super::error::{At, ImportError};

/// Bytes at the beginning and the end of a file that its hash is of. The length is in it too, so what stays unseen is a change in
/// the middle that keeps the length; hashing all would read every source twice.
const HASHED_BYTES: u64 = 64 << 10;

/// What tells a source from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    pub(super) hash: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> Result<Self, ImportError> {
        let mut file = open(path)?;
        let bytes = file.metadata().at("reading", path)?.len();
        let mut hash = Xxh3Default::new();
        hash.update(&bytes.to_le_bytes());
        let mut part = Vec::new();
        for from in [0, bytes.saturating_sub(HASHED_BYTES).max(HASHED_BYTES)] {
            file.seek(SeekFrom::Start(from)).at("reading", path)?;
            part.clear();
            file.by_ref().take(HASHED_BYTES).read_to_end(&mut part).at("reading", path)?;
            hash.update(&part);
        }
        Ok(Self { bytes, hash: hash.digest() })
    }
}

/// Opens a source that can be read more than once.
pub(super) fn open(path: &Path) -> Result<File, ImportError> {
    let file = File::open(path).at("opening", path)?;
    if !file.metadata().at("opening", path)?.is_file() {
        return Err(ImportError::Format {
            file: path.to_owned(),
            found: "no regular file".to_owned(),
            remedy: "an import must be able to read its source again: write it to a file first",
        });
    }
    Ok(file)
}

/// What files of other kinds begin with, and how they can be imported.
const FOREIGN: [(&[u8], &str, &str); 9] = [
    (b"\x1f\x8b", "compressed by gzip", UNPACK),
    (b"BZh", "compressed by bzip2", UNPACK),
    (b"\xfd7zXZ\0", "compressed by xz", UNPACK),
    (b"\x04\x22\x4d\x18", "compressed by lz4", UNPACK),
    (b"PK\x03\x04", "a ZIP archive", UNPACK),
    (b"PAR1", "a Parquet file", "import it as Parquet"),
    (b"\xff\xfe", "text in UTF-16", "convert it to UTF-8 first"),
    (b"\xfe\xff", "text in UTF-16", "convert it to UTF-8 first"),
    (b"ARROW1", "an Arrow file", "convert it to Parquet first"),
];
const UNPACK: &str = "unpack it first; plain files and those compressed by zstd can be imported";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The bytes of a text source, unpacked where it is compressed by zstd.
pub(super) enum Input {
    Plain(Counted<File>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Counted<File>>>>),
}

impl Input {
    /// From `offset` on, counted in unpacked bytes.
    pub(super) fn open(path: &Path, offset: u64) -> Result<Self, ImportError> {
        let mut file = open(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(8).read_to_end(&mut magic).at("reading", path)?;
        if let Some((_, found, remedy)) = FOREIGN.iter().find(|(magic_of, ..)| magic.starts_with(magic_of)) {
            return Err(ImportError::Format { file: path.to_owned(), found: (*found).to_owned(), remedy });
        }
        file.rewind().at("reading", path)?;
        if !magic.starts_with(ZSTD) {
            file.seek(SeekFrom::Start(offset)).at("reading", path)?;
            return Ok(Self::Plain(Counted { inner: file, bytes: offset }));
        }
        let decoder = zstd::Decoder::new(Counted { inner: file, bytes: 0 }).at("unpacking", path)?;
        let mut input = Self::Zstd(Box::new(decoder));
        io::copy(&mut input.by_ref().take(offset), &mut io::sink()).at("unpacking", path)?;
        Ok(input)
    }

    /// Bytes of the file that were read.
    pub(super) fn file_bytes(&self) -> u64 {
        match self {
            Self::Plain(file) => file.bytes,
            Self::Zstd(decoder) => decoder.get_ref().get_ref().bytes,
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }
}

/// Counts what is read.
pub(super) struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(into)?;
        self.bytes += bytes as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_source_is_read_from_any_place_on_plain_or_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
        fs::write(&plain, &bytes).unwrap();
        fs::write(&packed, zstd::encode_all(&*bytes, 3).unwrap()).unwrap();
        for path in [plain, packed] {
            for offset in [0, 1, 100_000, bytes.len()] {
                let mut read = Vec::new();
                let mut input = Input::open(&path, offset as u64).unwrap();
                input.read_to_end(&mut read).unwrap();
                assert_eq!(read, bytes[offset..]);
                assert_eq!(input.file_bytes(), fs::metadata(&path).unwrap().len());
            }
        }
    }

    #[test]
    fn files_of_other_kinds_are_refused_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        for (magic, found, _) in FOREIGN {
            fs::write(&path, [magic, b" and more"].concat()).unwrap();
            let refused = Input::open(&path, 0).err().unwrap().to_string();
            assert!(refused.contains(&format!("a.csv is {found}; ")), "{refused}");
        }
        assert!(matches!(
            Input::open(dir.path(), 0),
            Err(ImportError::Format { .. } | ImportError::Io { .. })
        ));
        let missing = Input::open(&dir.path().join("b.csv"), 0).err().unwrap().to_string();
        assert!(missing.contains("opening") && missing.contains("b.csv failed"), "{missing}");
    }

    #[test]
    fn a_cut_compressed_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv.zst");
        let packed = zstd::encode_all(&vec![7; 100_000][..], 3).unwrap();
        fs::write(&path, &packed[..packed.len() - 3]).unwrap();
        assert!(Input::open(&path, 0).unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn the_hash_sees_the_length_the_beginning_and_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        for length in [0, 1, 70_000, 200_000] {
            let mut bytes = vec![b'a'; length];
            fs::write(&path, &bytes).unwrap();
            let first = Identity::of(&path).unwrap();
            assert_eq!(Identity::of(&path).unwrap(), first);
            bytes.push(b'a');
            fs::write(&path, &bytes).unwrap();
            assert_ne!(Identity::of(&path).unwrap(), first);
            bytes.pop();
            for at in [0, length.saturating_sub(1)].into_iter().filter(|at| *at < length) {
                bytes[at] = b'b';
                fs::write(&path, &bytes).unwrap();
                assert_ne!(Identity::of(&path).unwrap(), first, "byte {at} of {length}");
                bytes[at] = b'a';
            }
        }
    }
}
