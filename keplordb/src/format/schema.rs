//! A table's schema in bytes, as every file of a directory carries it: WAL headers, segments and the manifest.
//!
//! ```text
//! offset  bytes
//!      0      1  schema id
//!      1      1  1 if the program named its columns, 0 if it only counted them
//!      2      6  dims u16, counters u16, labels u16
//!      8      …  for each dim, then for each counter: its name, after its length in 2 bytes
//!      …      …  for each label: its name likewise, then 1 byte: 1 if it has a hash index, 0 if not
//! ```
//!
//! Valid if and only if
//! 1. each yes-or-no byte is 0 or 1 and each name is UTF-8, and
//! 2. [`TableSchema::validate`] accepts it: not too many columns, and names neither empty nor too long nor doubled nor a
//!    built-in column's.
//!
//! Counted columns have names too (`dim_0` …), so that both kinds read alike.

use crate::format::bytes::{ByteReader, ByteWriter, Malformed, Watch};
use crate::schema::{Label, MAX_COUNTERS, MAX_DIMS, MAX_LABELS, TableSchema};

/// Appends a schema that [`TableSchema::validate`] accepts. Panics on counts and names that it would refuse for their
/// size, which is our own mistake: engines validate before they write.
pub(crate) fn put_schema(schema: &TableSchema, out: &mut Vec<u8>) {
    let shape = schema.shape();
    out.put_u8(schema.id());
    out.put_u8(schema.is_named().into());
    for count in [shape.dims, shape.counters, shape.labels] {
        out.put_u16(u16::try_from(count).expect("columns are limited to hundreds"));
    }
    for name in schema.dims().chain(schema.counters()) {
        out.put_string(name);
    }
    for label in schema.label_columns() {
        out.put_string(&label.name);
        out.put_u8(label.indexed.into());
    }
}

/// Reads the schema that `reader` stands before, and leaves it behind it.
pub(crate) fn read_schema<W: Watch>(reader: &mut ByteReader<'_, W>) -> Result<TableSchema, Malformed> {
    reader.within("schema", read_columns)
}

fn read_columns<W: Watch>(reader: &mut ByteReader<'_, W>) -> Result<TableSchema, Malformed> {
    let start = reader.position();
    let id = reader.u8("schema id")?;
    let named = read_bool(reader, "schema naming")?;
    let dims = read_column_count(reader, "dims", MAX_DIMS)?;
    let counters = read_column_count(reader, "counters", MAX_COUNTERS)?;
    let labels = read_column_count(reader, "labels", MAX_LABELS)?;

    let dims = read_names(reader, dims, "dim name")?;
    let counters = read_names(reader, counters, "counter name")?;
    let labels = (0..labels)
        .map(|_| {
            let name = reader.string("label name")?.to_owned();
            Ok(Label { name, indexed: read_bool(reader, "label index")? })
        })
        .collect::<Result<_, Malformed>>()?;

    let schema = TableSchema::from_parts(id, named, dims, counters, labels);
    schema.validate().map_err(|refusal| Malformed::new(start, format!("schema: {refusal}")))?;
    Ok(schema)
}

fn read_bool<W: Watch>(reader: &mut ByteReader<'_, W>, what: &str) -> Result<bool, Malformed> {
    let at = reader.position();
    match reader.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Malformed::new(at, format!("{what} is {other}, neither 0 nor 1"))),
    }
}

/// A count that is refused before anything is allocated for it.
fn read_column_count<W: Watch>(
    reader: &mut ByteReader<'_, W>,
    role: &str,
    max: usize,
) -> Result<usize, Malformed> {
    let at = reader.position();
    let count = usize::from(reader.u16(role)?);
    if count > max {
        return Err(Malformed::new(at, format!("{count} {role}, at most {max} are possible")));
    }
    Ok(count)
}

fn read_names<W: Watch>(
    reader: &mut ByteReader<'_, W>,
    count: usize,
    what: &str,
) -> Result<Vec<String>, Malformed> {
    (0..count).map(|_| reader.string(what).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MAX_NAME_BYTES;

    fn calls() -> TableSchema {
        TableSchema::new(7).dim("user").dim("modèle").counter("tokens").label("prompt").indexed_label("trace")
    }

    fn bytes(schema: &TableSchema) -> Vec<u8> {
        let mut out = Vec::new();
        put_schema(schema, &mut out);
        out
    }

    fn refusal(bytes: &[u8]) -> Malformed {
        read_schema(&mut ByteReader::new(bytes)).unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_more() {
        let longest = "n".repeat(MAX_NAME_BYTES);
        for schema in [
            calls(),
            TableSchema::new(0),
            TableSchema::new(255).dim(longest),
            TableSchema::positional(1, MAX_DIMS, MAX_COUNTERS, MAX_LABELS),
        ] {
            let mut out = bytes(&schema);
            let length = out.len();
            out.put_u8(99);
            let mut reader = ByteReader::new(&out);
            assert_eq!(read_schema(&mut reader).unwrap(), schema);
            assert_eq!(reader.position(), length);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let schema = TableSchema::new(7).dim("ab").counter("c").indexed_label("d");
        assert_eq!(bytes(&schema), b"\x07\x01\x01\0\x01\0\x01\0\x02\0ab\x01\0c\x01\0d\x01");
    }

    #[test]
    fn damage_is_named() {
        let mut naming = bytes(&calls());
        naming[1] = 2;
        assert_eq!(
            refusal(&naming),
            Malformed { offset: 1, what: "schema naming is 2, neither 0 nor 1".into() }
        );
        let mut dims = bytes(&calls());
        dims[3] = 0xFF;
        assert_eq!(
            refusal(&dims),
            Malformed { offset: 2, what: "65282 dims, at most 256 are possible".into() }
        );
        let doubled = refusal(&bytes(&TableSchema::new(1).dim("a").label("a"))).what;
        assert!(doubled.contains("two columns are called \"a\""), "{doubled}");
    }

    #[test]
    fn every_cut_is_refused_and_no_flip_panics() {
        let whole = bytes(&calls());
        for length in 0..whole.len() {
            refusal(&whole[..length]);
        }
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[place] ^= 1 << bit;
                // Either refused or another legal schema: names have no redundancy.
                if let Ok(read) = read_schema(&mut ByteReader::new(&flipped)) {
                    assert_ne!(read, calls());
                    read.validate().unwrap();
                }
            }
        }
    }
}
