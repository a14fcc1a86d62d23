//! Entries that are values: what a type's bytes are is said by a codec, and the log's writer and reader do the rest.

use std::cell::Cell;
use std::error::Error;
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{LogError, Result};
use crate::header::segment_name;
use crate::reader::{Entry, Reader};
use crate::timestamp::Timestamp;
use crate::writer::Writer;

/// Why a value could not be encoded or decoded, in the codec's words.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// Makes bytes of values, and values of bytes.
///
/// One value serves a writer or reader, perhaps from several threads. What it encodes it must decode, in this release of the
/// program and in later ones: the log keeps bytes, not types.
pub trait Codec<T> {
    /// Appends the bytes of a value to `target`.
    ///
    /// # Errors
    /// If the value has no encoding. What was appended is then thrown away.
    fn encode(&self, value: &T, target: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The value whose bytes these are, all of them.
    ///
    /// # Errors
    /// If they are the bytes of no value.
    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// JSON, one document an entry: readable by people and by every language, and tolerant of fields that come and go as serde's
/// attributes say. Several times as long as [`Postcard`].
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T, target: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(serde_json::to_writer(target, value)?)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// [Postcard](https://docs.rs/postcard): compact and quick, without names. The order and types of fields, and the order of an
/// enum's variants, are the format: add new ones at the end of an enum only, and never change a struct.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Postcard {
    fn encode(&self, value: &T, target: &mut Vec<u8>) -> Result<(), CodecError> {
        *target = postcard::to_extend(value, mem::take(target))?;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(bytes)? {
            (value, []) => Ok(value),
            (_, rest) => Err(format!("{} bytes follow the value", rest.len()).into()),
        }
    }
}

/// How much memory a thread keeps for the bytes of its next values.
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    /// Bytes of values. Who uses them takes them and puts them back, so a codec may write to another log.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes values of one type to a log. It is a [`Writer`] and a codec: any number of threads may use it, and several, of
/// different types, may share a writer.
///
/// ```
/// use keplordb_log::{Log, Postcard, TypedReader, TypedWriter};
/// use serde::{Deserialize, Serialize};
/// use std::sync::Arc;
///
/// #[derive(Serialize, Deserialize, Debug, PartialEq)]
/// enum Command {
///     Deposit { account: u64, cents: u64 },
///     Close { account: u64 },
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let log = Log::open(dir.path())?;
/// let commands = TypedWriter::new(Arc::new(log.writer()?), Postcard);
/// commands.write(&Command::Deposit { account: 7, cents: 1200 })?;
/// let closed = commands.write(&Command::Close { account: 7 })?;
///
/// let mut reader = TypedReader::<Command, _>::new(log.reader()?, Postcard);
/// assert_eq!(reader.next()?.unwrap().value, Command::Deposit { account: 7, cents: 1200 });
/// assert_eq!(reader.next()?.unwrap().time, closed);
/// assert_eq!(reader.next()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TypedWriter<T, C> {
    writer: Arc<Writer>,
    codec: C,
    values: PhantomData<fn(&T)>,
}

impl<T, C: Codec<T>> TypedWriter<T, C> {
    /// Values of `T` by `codec`, written by `writer`.
    pub fn new(writer: Arc<Writer>, codec: C) -> Self {
        Self { writer, codec, values: PhantomData }
    }

    /// Writes a value as [`Writer::write`] does an entry.
    ///
    /// # Errors
    /// [`LogError::Encode`], and those of [`Writer::write`].
    pub fn write(&self, value: &T) -> Result<Timestamp> {
        with_buffer(|buffer| {
            self.encode(value, buffer)?;
            self.writer.write(buffer)
        })
    }

    /// Writes a value with a time that the caller chooses, as [`Writer::write_at`].
    ///
    /// # Errors
    /// [`LogError::Encode`], and those of [`Writer::write_at`].
    pub fn write_at(&self, time: Timestamp, value: &T) -> Result<()> {
        with_buffer(|buffer| {
            self.encode(value, buffer)?;
            self.writer.write_at(time, buffer)
        })
    }

    /// Writes values as one batch, there whole or not at all, as [`Writer::write_batch`]. Allocates a place for each value.
    ///
    /// # Errors
    /// [`LogError::Encode`], and those of [`Writer::write_batch`]; nothing is written then.
    pub fn write_batch<'a>(
        &self,
        values: impl IntoIterator<Item = &'a T>,
    ) -> Result<Option<(Timestamp, Timestamp)>>
    where
        T: 'a,
    {
        with_buffer(|buffer| {
            let mut places: Vec<Range<usize>> = Vec::new();
            for value in values {
                let start = buffer.len();
                self.encode(value, buffer)?;
                places.push(start..buffer.len());
            }
            self.writer.write_batch(places.into_iter().map(|place| buffer.get(place).unwrap_or_default()))
        })
    }

    /// The writer of the entries, to sync, close, or write entries of another type.
    pub fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    fn encode(&self, value: &T, target: &mut Vec<u8>) -> Result<()> {
        let encoded = self.codec.encode(value, target);
        encoded.map_err(|error| LogError::Encode { what: error.to_string() })
    }
}

/// Lends the thread's buffer, empty.
fn with_buffer<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A thread that is ending has none any more.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let written = write(&mut buffer);
    if buffer.capacity() <= KEPT_BYTES {
        let _ = BUFFER.try_with(|kept| kept.set(mem::take(&mut buffer)));
    }
    written
}

/// A value with the time of its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed<T> {
    /// The entry's time.
    pub time: Timestamp,
    /// What was written.
    pub value: T,
}

fn decode<T>(codec: &impl Codec<T>, entry: &Entry<'_>, dir: &Path) -> Result<Typed<T>> {
    match codec.decode(entry.bytes) {
        Ok(value) => Ok(Typed { time: entry.time, value }),
        Err(error) => {
            let file = dir.join(segment_name(entry.segment));
            Err(LogError::Decode { file, offset: entry.offset, time: entry.time, what: error.to_string() })
        }
    }
}

/// Reads values of one type from a log: a [`Reader`] and a codec. [`TypedWriter`] has an example.
#[derive(Debug)]
pub struct TypedReader<T, C> {
    reader: Reader,
    codec: C,
    values: PhantomData<fn() -> T>,
}

impl<T, C: Codec<T>> TypedReader<T, C> {
    /// Values of `T` by `codec`, from where `reader` stands.
    pub fn new(reader: Reader, codec: C) -> Self {
        Self { reader, codec, values: PhantomData }
    }

    /// The next value, as [`Reader::next`] gives the next entry.
    ///
    /// # Errors
    /// [`LogError::Decode`] for bytes that are no value; the reader stands behind them then, so the next call skips them.
    /// Else those of [`Reader::next`].
    #[expect(clippy::should_implement_trait, reason = "as that of the reader, which is no iterator")]
    pub fn next(&mut self) -> Result<Option<Typed<T>>> {
        let dir = Arc::clone(self.reader.dir());
        let Some(entry) = self.reader.next()? else { return Ok(None) };
        decode(&self.codec, &entry, &dir).map(Some)
    }

    /// The value before the reader, as [`Reader::back`] gives the entry.
    ///
    /// # Errors
    /// As [`next`](Self::next); after a [`LogError::Decode`] the reader stands before those bytes.
    pub fn back(&mut self) -> Result<Option<Typed<T>>> {
        let dir = Arc::clone(self.reader.dir());
        let Some(entry) = self.reader.back()? else { return Ok(None) };
        decode(&self.codec, &entry, &dir).map(Some)
    }

    /// As [`Reader::wait`].
    ///
    /// # Errors
    /// Those of [`Reader::wait`].
    pub fn wait(&mut self, timeout: Duration) -> Result<bool> {
        self.reader.wait(timeout)
    }

    /// As [`Reader::seek`].
    ///
    /// # Errors
    /// Those of [`Reader::seek`].
    pub fn seek(&mut self, time: Timestamp) -> Result<()> {
        self.reader.seek(time)
    }

    /// The reader of the entries.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }
}
