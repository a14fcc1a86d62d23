//! Columns of many rows, owned: what a query gives instead of rows. Plain values; knows nothing of where they come from.

use std::sync::Arc;

use crate::format::bytes::Malformed;

/// Bytes of texts at which a batch ends: besides its rows, what bounds how much is held at a time. A batch is over it by one
/// text at most.
pub(super) const BATCH_TEXT_BYTES: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// Columns of some rows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ColumnBatch {
    /// How many rows; each column has as many values.
    pub rows: usize,
    /// The columns, in the order in which they were asked for.
    pub columns: Vec<ColumnValues>,
}

/// The values of a column, a value for each row.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ColumnValues {
    /// Numbers, whatever the width of their column.
    Ints(Vec<i64>),
    /// Texts by their places among the different ones of a segment: of dims that have no more values than the batch has
    /// rows. Where texts of another column ended the batch early, it has fewer.
    Keys {
        /// Each is below the number of values.
        codes: Vec<u32>,
        /// Made once per segment and query: batches that have the same `Arc` have the same values.
        values: Arc<KeyValues>,
    },
    /// Texts one after the other.
    Texts(TextValues),
}

/// The different values of a dim in a segment, ascending by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValues {
    texts: TextValues,
}

impl KeyValues {
    /// Panics for values of 4 GiB or more in all, which whoever makes them rules out.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut texts = TextValues::default();
        for value in values {
            texts.text.push_str(value);
            texts
                .ends
                .push(u32::try_from(texts.text.len()).expect("the values of a batch are far below 4 GiB"));
        }
        Self { texts }
    }

    /// How many values there are; their codes are all numbers below.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The value of a code; "" if there is no such code.
    #[inline]
    pub fn get(&self, code: u32) -> &str {
        self.texts.get(code as usize)
    }

    /// The values by their codes.
    pub fn texts(&self) -> &TextValues {
        &self.texts
    }
}

/// Texts, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextValues {
    text: String,
    ends: Vec<u32>,
}

impl TextValues {
    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text, not even an empty one.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A text by its place; "" past the last one.
    #[inline]
    pub fn get(&self, place: usize) -> &str {
        let Some(end) = self.ends.get(place) else { return "" };
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.text.get(start as usize..*end as usize).unwrap_or_default()
    }

    /// The texts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// All bytes, one text after the other, and where in them each text ends; it begins where the one before it ends.
    pub fn as_parts(&self) -> (&str, &[u32]) {
        (&self.text, &self.ends)
    }

    /// As [`as_parts`](Self::as_parts), without a copy.
    pub fn into_parts(self) -> (String, Vec<u32>) {
        (self.text, self.ends)
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= BATCH_TEXT_BYTES
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.text.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Appends `count` empty texts.
    pub(super) fn append_empty(&mut self, count: usize) {
        self.ends.resize(self.ends.len() + count, self.ends.last().copied().unwrap_or(0));
    }

    /// Appends a text of each row, as `put` puts it behind the others, until they are [full](Self::is_full); how many. All are
    /// tested together for being UTF-8. After an error nothing is to be read of the texts.
    ///
    /// `bytes` is memory to work with.
    pub(super) fn append(
        &mut self,
        rows: &[u32],
        bytes: &mut Vec<u8>,
        mut put: impl FnMut(u32, &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<usize, Malformed> {
        bytes.clear();
        let (before, first) = (self.text.len(), self.ends.len());
        self.ends.reserve(rows.len());
        for row in rows {
            if before + bytes.len() >= BATCH_TEXT_BYTES {
                break;
            }
            put(*row, bytes)?;
            // Full texts, and one more, are far below 4 GiB.
            self.ends.push(u32::try_from(before + bytes.len()).unwrap_or(u32::MAX));
        }
        let not_utf8 = || Malformed::new(0, "a text is not UTF-8");
        let appended = self.ends.get(first..).unwrap_or_default();
        // Where the whole is UTF-8 and each ends with a character, each is UTF-8.
        let ends_whole = |text: &str| {
            appended.iter().all(|end| text.is_char_boundary((*end as usize).wrapping_sub(before)))
        };
        if before == 0 {
            let text = String::from_utf8(std::mem::take(bytes)).map_err(|_| not_utf8())?;
            self.text = Some(text).filter(|text| ends_whole(text)).ok_or_else(not_utf8)?;
        } else {
            let text = str::from_utf8(bytes).ok().filter(|text| ends_whole(text));
            self.text.push_str(text.ok_or_else(not_utf8)?);
        }
        Ok(appended.len())
    }
}

impl ColumnValues {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Keys { codes, .. } => codes.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Ints(values) => values.truncate(len),
            Self::Keys { codes, .. } => codes.truncate(len),
            Self::Texts(texts) => texts.truncate(len),
        }
    }

    /// Whether its texts are enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Texts(texts) if texts.is_full())
    }

    /// The numbers; makes it some if it is not.
    pub(super) fn ints(&mut self) -> &mut Vec<i64> {
        if !matches!(self, Self::Ints(_)) {
            *self = Self::Ints(Vec::new());
        }
        let Self::Ints(values) = self else { unreachable!("it was made so") };
        values
    }

    /// The texts, keys as the texts that they stand for; `None`, and nothing is changed, where that were too many bytes.
    pub(super) fn texts(&mut self) -> Option<&mut TextValues> {
        if let Self::Keys { codes, values } = self {
            let bytes: usize = codes.iter().map(|code| values.get(*code).len()).sum();
            if bytes >= BATCH_TEXT_BYTES {
                return None;
            }
            *self = Self::Texts(KeyValues::new(codes.iter().map(|code| values.get(*code))).texts);
        }
        match self {
            Self::Texts(texts) => Some(texts),
            _ => None,
        }
    }
}
