//! A page of rows and the cursor that leads to the next one: plain data, and the cursor's text.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::{DbError, Result};

/// What begins a cursor's text: what it is, and the version of what follows.
const PREFIX: &str = "kpage1-";
/// Its bytes, two digits each: order, table, time, sequence, settled, checksum.
const TEXT_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 4;

/// Some rows of a query, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<R> {
    /// The rows, in the order of the query; as many as were asked for, unless they are the last ones.
    pub rows: Vec<R>,
    /// What to ask for the next page with; `None` when there is none.
    pub next: Option<PageCursor>,
}

/// A place between two pages of a query; opaque, and good as long as the table is there.
///
/// It holds the last row of the page before and which rows were there when the first page was asked for. So all pages
/// together have each row that was there then exactly once, whatever is appended, moved or merged meanwhile, and none that
/// was appended later. Rows that were deleted meanwhile are left out.
///
/// It belongs to the table and the filter that it came with. Order and schema id are checked, and that the table has given as
/// many numbers; another table of the same schema id, or another filter, is not noticed: what comes then are rows of that one
/// behind the same place.
///
/// Two kinds of rows may come in a late page though the first moment did not show them: those of an append that failed for good
/// and were found in the log when the table was opened again; and with a [`Reader`](crate::Reader), which sees only files, those
/// of an append that was under way when it was refreshed for the first page.
///
/// It can be stored as text, and is as good after a restart, in another process, and in a copy of the table:
///
/// ```
/// # use keplordb::{Engine, EngineConfig, LogEvent, PageCursor, QueryFilter};
/// # let dir = tempfile::tempdir()?;
/// let engine = Engine::<0, 0, 0>::open(EngineConfig::in_dir(dir.path().join("ticks")))?;
/// engine.append_batch(&vec![LogEvent::default(); 5])?; // five events of one time
///
/// let page = engine.query_page(&QueryFilter::default(), 3, None)?;
/// assert_eq!(page.rows.len(), 3);
/// let link: String = page.next.unwrap().to_string(); // goes to a web page, and comes back
/// let cursor: PageCursor = link.parse()?;
/// let page = engine.query_page(&QueryFilter::default(), 3, Some(cursor))?;
/// assert_eq!((page.rows.len(), page.next), (2, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The text is 67 letters, digits and a hyphen; it is not secret, and says nothing of events but a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageCursor {
    pub(crate) newest_first: bool,
    /// The schema's id.
    pub(crate) table: u8,
    /// The last row that was given.
    pub(crate) ts: i64,
    pub(crate) sequence: u64,
    /// The number below which rows belong to the pages.
    pub(crate) below: u64,
}

impl PageCursor {
    /// Refuses a cursor of another order or table, or of a state of it that is not seen here.
    pub(crate) fn check(&self, newest_first: bool, table: u8, next: u64) -> Result<()> {
        let order = |newest_first| if newest_first { "newest first" } else { "oldest first" };
        if self.newest_first != newest_first {
            let (cursor, query) = (order(self.newest_first), order(newest_first));
            return Err(illegal(format!("it is of a query with the {cursor}, this one has the {query}")));
        }
        if self.table != table {
            return Err(illegal(format!(
                "it is of a table with the schema id {}, this one has {table}",
                self.table
            )));
        }
        if self.below > next {
            let why =
                "it is of another table, or of rows that are not seen here; a reader is refreshed first";
            return Err(illegal(why));
        }
        Ok(())
    }

    fn bytes(&self) -> [u8; TEXT_BYTES - 4] {
        let mut bytes = [0; TEXT_BYTES - 4];
        bytes[0] = u8::from(self.newest_first);
        bytes[1] = self.table;
        bytes[2..10].copy_from_slice(&self.ts.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.below.to_le_bytes());
        bytes
    }
}

fn illegal(why: impl Into<String>) -> DbError {
    DbError::invalid("the page cursor", why)
}

impl fmt::Display for PageCursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let mut text = String::from(PREFIX);
        for byte in bytes.into_iter().chain(crc32fast::hash(&bytes).to_le_bytes()) {
            write!(text, "{byte:02x}")?;
        }
        out.pad(&text)
    }
}

impl FromStr for PageCursor {
    type Err = DbError;

    /// # Errors
    /// [`Invalid`](DbError::Invalid) for a text that no cursor gave, that was changed, or that a newer release has made.
    fn from_str(text: &str) -> Result<Self> {
        let changed = || illegal("its text is not as it was made; ask for the first page again");
        let Some(digits) = text.strip_prefix(PREFIX) else {
            let version = text.strip_prefix("kpage").and_then(|rest| rest.split_once('-'));
            return Err(match version {
                Some((version, _)) if version.parse::<u32>().is_ok() => illegal(format!(
                    "it has version {version}, this release reads 1; ask for the first page again"
                )),
                _ => changed(),
            });
        };
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return Err(changed()) };
        let mut bytes = [0; TEXT_BYTES];
        if pairs.len() != bytes.len() {
            return Err(changed());
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(changed()),
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let (body, crc) = bytes.split_at(TEXT_BYTES - 4);
        let word = |start: usize| bytes[start..start + 8].try_into().map_err(|_| changed());
        if crc != crc32fast::hash(body).to_le_bytes() || bytes[0] > 1 {
            return Err(changed());
        }
        Ok(Self {
            newest_first: bytes[0] == 1,
            table: bytes[1],
            ts: i64::from_le_bytes(word(2)?),
            sequence: u64::from_le_bytes(word(10)?),
            below: u64::from_le_bytes(word(18)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSORS: [PageCursor; 2] = [
        PageCursor { newest_first: true, table: 9, ts: i64::MIN, sequence: u64::MAX, below: 1 << 40 },
        PageCursor { newest_first: false, table: 0, ts: 1_700_000_000_000_000_000, sequence: 7, below: 8 },
    ];

    #[test]
    fn a_cursor_is_the_same_after_a_trip_through_text() {
        for cursor in CURSORS {
            let text = cursor.to_string();
            assert_eq!(text.parse::<PageCursor>().unwrap(), cursor, "{text}");
            assert_eq!(text.len(), 67);
        }
        // The text of version 1, for ever.
        let text = "kpage1-000000002a36fe9c971707000000000000000800000000000000c6e41936";
        assert_eq!(CURSORS[1].to_string(), text);
    }

    #[test]
    fn every_other_text_is_refused() {
        for cursor in CURSORS {
            let text = cursor.to_string();
            for place in 0..text.len() {
                for other in ["0", "1", "f", "A", "é", "-", ""] {
                    let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
                    if changed != text {
                        let error = changed.parse::<PageCursor>().expect_err(&changed);
                        assert!(matches!(error, DbError::Invalid { .. }), "{error}");
                    }
                }
                assert!(text[..place].parse::<PageCursor>().is_err());
            }
            assert!(format!("{text}00").parse::<PageCursor>().is_err());
        }
        let newer = CURSORS[0].to_string().replace("kpage1-", "kpage2-").parse::<PageCursor>().unwrap_err();
        assert_eq!(
            newer.to_string(),
            "the page cursor is not legal: it has version 2, this release reads 1; ask for the first page again"
        );
    }

    #[test]
    fn a_cursor_of_something_else_is_refused() {
        let [cursor, _] = CURSORS;
        assert!(cursor.check(true, 9, cursor.below).is_ok());
        let refused =
            |newest_first, table, next| cursor.check(newest_first, table, next).unwrap_err().to_string();
        assert_eq!(
            refused(false, 9, u64::MAX),
            "the page cursor is not legal: it is of a query with the newest first, this one has the oldest first"
        );
        assert_eq!(
            refused(true, 8, u64::MAX),
            "the page cursor is not legal: it is of a table with the schema id 9, this one has 8"
        );
        assert!(refused(true, 9, 1).contains("a reader is refreshed first"));
    }
}
