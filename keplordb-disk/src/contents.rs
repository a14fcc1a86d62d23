//! The bytes of a file that lies in memory: read, write and resize at offsets, with errors instead of aborts.

use std::io;

/// Copies what `contents` has from `offset` on into `target`, and returns how much that was.
pub(crate) fn read(contents: &[u8], target: &mut [u8], offset: u64) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|offset| contents.get(offset..)).unwrap_or_default();
    let bytes = rest.len().min(target.len());
    if let (Some(target), Some(source)) = (target.get_mut(..bytes), rest.get(..bytes)) {
        target.copy_from_slice(source);
    }
    bytes
}

/// Writes `source` at `offset`, with zeros in a gap behind the old end.
pub(crate) fn write(contents: &mut Vec<u8>, source: &[u8], offset: u64) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(|_| too_large())?;
    let end = start.checked_add(source.len()).ok_or_else(too_large)?;
    if source.is_empty() {
        return Ok(());
    }
    if end > contents.len() {
        contents.try_reserve(end - contents.len())?;
        if start > contents.len() {
            contents.resize(start, 0);
        }
    }
    let (over, beyond) = source.split_at(source.len().min(contents.len() - start));
    if let Some(range) = contents.get_mut(start..start + over.len()) {
        range.copy_from_slice(over);
    }
    contents.extend_from_slice(beyond);
    Ok(())
}

/// Cuts the contents, or lengthens them with zeros.
pub(crate) fn resize(contents: &mut Vec<u8>, bytes: u64) -> io::Result<()> {
    let bytes = usize::try_from(bytes).map_err(|_| too_large())?;
    contents.try_reserve(bytes.saturating_sub(contents.len()))?;
    contents.resize(bytes, 0);
    Ok(())
}

fn too_large() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_overwrite_straddle_append_and_leave_gaps() {
        let cases: [(&[u8], u64, &[u8]); 6] = [
            (b"XY", 0, b"XYcd"),
            (b"XY", 3, b"abcXY"),
            (b"XY", 4, b"abcdXY"),
            (b"XY", 6, b"abcd\0\0XY"),
            (b"", 2, b"abcd"),
            // POSIX: an empty write changes no length.
            (b"", 9, b"abcd"),
        ];
        for (source, offset, expected) in cases {
            let mut contents = b"abcd".to_vec();
            write(&mut contents, source, offset).unwrap();
            assert_eq!(contents, expected, "{source:?} at {offset}");
        }
    }

    #[test]
    fn impossible_lengths_are_errors() {
        let mut contents = b"abcd".to_vec();
        assert!(write(&mut contents, b"x", u64::MAX).is_err());
        assert!(write(&mut contents, b"x", u64::MAX / 2).is_err());
        assert!(resize(&mut contents, u64::MAX).is_err());
        assert_eq!(contents, b"abcd");
    }

    #[test]
    fn reads_stop_at_the_end() {
        let mut target = [9; 3];
        assert_eq!(read(b"abcd", &mut target, 2), 2);
        assert_eq!(&target, b"cd\x09");
        assert_eq!(read(b"abcd", &mut target, 4), 0);
        assert_eq!(read(b"abcd", &mut target, u64::MAX), 0);
    }
}
