//! An import from its beginning, or from where it was stopped, to its end. Steps and what a stop between them leaves: see the
//! module's documentation.

use std::collections::{HashMap, HashSet};

use keplordb::any::{AnySnapshot, AnyStore, Test};
use xxhash_rust::xxh3::Xxh3Default;

use super::columnar::ParquetReading;
use super::csv::CsvReading;
use super::error::{At, ImportError};
use super::journal::{Batch, Beginning, Entry, Journal, Landmark, Totals};
use super::json::JsonReading;
use super::mapping::{Binding, Row};
use super::reader::{Parsed, Reader};
use super::reading::{Context, Place, Reading};
use super::rejects::{Rejection, Rejects};
use super::source::Identity;
use super::{Format, Import, Imported, Progress};

pub(super) fn run(import: Import<'_>) -> Result<Imported, ImportError> {
    let (journal, _) = import.paths();
    let source = import.source.clone();
    let mut rows = 0;
    run_counting(import, &mut rows).map_err(|cause| match rows {
        0 => cause,
        _ => ImportError::Stopped { file: source, journal, rows, cause: Box::new(cause) },
    })
}

/// `rows` are those that are in the table, also where the import ends with an error.
fn run_counting(mut import: Import<'_>, rows: &mut u64) -> Result<Imported, ImportError> {
    let (journal_path, rejects_path) = import.paths();
    let binding = Binding::new(&import.mapping, import.store)?;
    let identity = Identity::of(&import.source)?;
    // Before anything is written: a source that is not what it should be leaves nothing behind.
    let reading = open(&import, &binding, None)?;
    if rejects_path.exists() && !Journal::is_there(&journal_path) {
        return Err(ImportError::Exists { file: rejects_path });
    }
    let mapping = import.mapping.fields().iter().map(ToString::to_string).collect();
    let beginning = Beginning::new(&import.source, identity, format!("{:?}", import.format), mapping);
    import.pass()?;
    let (journal, last) = Journal::open(&journal_path, &import.source, &beginning)?;
    import.pass()?;

    let totals = match last {
        None => Totals::default(),
        Some(Entry::Batch(batch)) => batch.before,
        Some(Entry::Done(totals)) => totals,
    };
    let snapshot = import.store.snapshot();
    // The journal is going to say that the table reaches this far: that must be so after a power failure too.
    import.store.sync()?;
    if !import.even_if_gone && !is_of_table(&snapshot, &binding, &totals)? {
        return Err(ImportError::Journal {
            journal: journal_path,
            line: 1,
            what: "the rows that were imported last are not there: it is of another table, or of a later state of this one, or \
                   they were deleted; remove it to import all rows, those too that are there, or go on behind them \
                   (`Import::even_if_gone`)"
                .to_owned(),
        });
    }
    *rows = totals.rows;
    if let Some(Entry::Done(_)) = last {
        return Ok(Imported {
            rows: totals.rows,
            rows_before: totals.rows,
            rejected: totals.rejected,
            rejects: rejects_path,
            journal: journal_path,
        });
    }
    let begins_anew = import.even_if_gone && totals.rejects_bytes > 0 && !rejects_path.exists();
    let totals = Totals { rejects_bytes: if begins_anew { 0 } else { totals.rejects_bytes }, ..totals };
    let source = import.source.clone();
    let mut reader = Reader {
        reading,
        store: import.store,
        row: Row::new(import.store),
        context: Context { path: &source, binding: &binding, hash: identity.hash },
        batch_rows: import.batch_rows,
        rejects_left: import.rejects_max.saturating_sub(totals.rejected),
    };
    let mut run = Run {
        rejects: Rejects::open(&rejects_path, totals.rejects_bytes)?,
        import,
        binding: &binding,
        journal,
        totals: Totals { sequence: snapshot.below(), ..totals },
        rows,
        rows_before: totals.rows,
        bytes_total: identity.bytes,
    };
    if let Some(Entry::Batch(batch)) = last {
        let batch = Batch { before: Totals { rejects_bytes: totals.rejects_bytes, ..batch.before }, ..batch };
        if begins_anew {
            // Whatever is rejected from here on is in a file that the journal knows nothing of.
            run.journal.push(&Entry::Batch(batch))?;
            run.import.pass()?;
        }
        let place = Place { offset: batch.offset, line: batch.line };
        reader.reading = open(&run.import, &binding, Some(place))?;
        run.go_on(&batch, reader.up_to(batch.end)?)?;
    }
    reader.each(|parsed| run.append_next(parsed))?;
    let now = Identity::of(&run.import.source)?;
    if now != identity {
        return Err(ImportError::SourceChanged {
            file: run.import.source.clone(),
            journal: journal_path,
            what: "it was written to meanwhile".to_owned(),
        });
    }
    run.journal.push(&Entry::Done(run.totals))?;
    run.import.pass()?;
    Ok(run.imported())
}

fn open(
    import: &Import<'_>,
    binding: &Binding,
    place: Option<Place>,
) -> Result<Box<dyn Reading>, ImportError> {
    Ok(match &import.format {
        Format::Csv(csv) => Box::new(CsvReading::open(&import.source, csv, binding, place)?),
        Format::JsonLines => Box::new(JsonReading::open(&import.source, binding, place)?),
        Format::Parquet => Box::new(ParquetReading::open(&import.source, binding, place)?),
    })
}

/// An import under way.
struct Run<'r, 'a> {
    import: Import<'a>,
    binding: &'r Binding,
    journal: Journal,
    rejects: Rejects,
    /// Of everything before the batch that comes next.
    totals: Totals,
    rows: &'r mut u64,
    rows_before: u64,
    bytes_total: u64,
}

impl Run<'_, '_> {
    /// Appends the batch of the journal's last entry, which was read again, unless it is in the table.
    fn go_on(&mut self, batch: &Batch, parsed: Parsed<'_>) -> Result<(), ImportError> {
        self.note_rejected(&parsed)?;
        let found = Batch {
            end: parsed.to.offset,
            rows: parsed.events.len() as u64,
            hash: hash_of(&parsed.keys),
            ..*batch
        };
        if found != *batch {
            return Err(ImportError::SourceChanged {
                file: self.import.source.clone(),
                journal: self.journal.path().to_owned(),
                what: format!("the rows from line {} on are others", batch.line),
            });
        }
        self.rejects.sync()?;
        match find_in_table(self.import.store, self.binding, batch.before.sequence, &parsed.keys)? {
            Some(first) => {
                self.count(&parsed.keys, parsed.rejections.len(), first + parsed.keys.len() as u64);
                self.rows_before = self.totals.rows;
                Ok(())
            }
            None => self.append(parsed),
        }
    }

    /// Appends a batch that comes behind the last one.
    fn append_next(&mut self, parsed: Parsed<'_>) -> Result<(), ImportError> {
        self.note_rejected(&parsed)?;
        self.check_length()?;
        // Nothing of this batch is written yet.
        if (self.import.stop)() {
            return Err(ImportError::Interrupted);
        }
        self.import.pass()?;
        self.rejects.sync()?;
        self.import.pass()?;
        let batch = Batch {
            before: self.totals,
            offset: parsed.from.offset,
            line: parsed.from.line,
            end: parsed.to.offset,
            rows: parsed.events.len() as u64,
            hash: hash_of(&parsed.keys),
        };
        self.journal.push(&Entry::Batch(batch))?;
        self.import.pass()?;
        self.append(parsed)
    }

    /// Notes a batch's rejected rows; all are in the side file when they are too many.
    fn note_rejected(&mut self, parsed: &Parsed<'_>) -> Result<(), ImportError> {
        for rejection in &parsed.rejections {
            self.rejects.push(rejection);
        }
        match parsed.rejections.last() {
            Some(last) if parsed.has_too_many => {
                self.rejects.sync()?;
                Err(self.too_many(last))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a source that is still written to before the row that is half there comes into the table.
    fn check_length(&self) -> Result<(), ImportError> {
        let file = &self.import.source;
        let bytes = std::fs::metadata(file).at("reading", file)?.len();
        if bytes == self.bytes_total {
            return Ok(());
        }
        Err(ImportError::SourceChanged {
            file: file.clone(),
            journal: self.journal.path().to_owned(),
            what: format!("it had {} bytes and has {bytes}; is it still written to?", self.bytes_total),
        })
    }

    fn too_many(&self, last: &Rejection) -> ImportError {
        let reason = match last.column.as_str() {
            "" => last.reason.clone(),
            column => format!("{column}: {}", last.reason),
        };
        ImportError::TooManyRejects {
            file: self.import.source.clone(),
            rejects: self.rejects.path().to_owned(),
            limit: self.import.rejects_max,
            line: last.line,
            reason,
        }
    }

    fn append(&mut self, parsed: Parsed<'_>) -> Result<(), ImportError> {
        let Parsed { events, keys, rejections, file_bytes, .. } = parsed;
        let end = if events.is_empty() { self.totals.sequence } else { events.append_durable()?.last + 1 };
        self.count(&keys, rejections.len(), end);
        self.import.pass()?;
        let progress = Progress {
            rows: self.totals.rows,
            rejected: self.totals.rejected,
            bytes: file_bytes,
            bytes_total: self.bytes_total,
        };
        (self.import.each)(&progress);
        Ok(())
    }

    /// Counts a batch that is in the table; its rows have the sequences before `end`.
    fn count(&mut self, keys: &[u64], rejected: usize, end: u64) {
        let rows = keys.len() as u64;
        let landmark = keys.last().map(|key| Landmark { first: end - rows, last: end - 1, key: *key });
        self.totals = Totals {
            rows: self.totals.rows + rows,
            rejected: self.totals.rejected + rejected as u64,
            rejects_bytes: self.rejects.bytes(),
            sequence: self.totals.sequence.max(end),
            landmark: landmark.or(self.totals.landmark),
        };
        *self.rows = self.totals.rows;
    }

    fn imported(&self) -> Imported {
        Imported {
            rows: self.totals.rows,
            rows_before: self.rows_before,
            rejected: self.totals.rejected,
            rejects: self.rejects.path().to_owned(),
            journal: self.journal.path().to_owned(),
        }
    }
}

impl Import<'_> {
    /// Between two steps: where tests stop an import.
    #[cfg(test)]
    fn pass(&mut self) -> Result<(), ImportError> {
        match &mut self.steps_left {
            Some(0) => {
                let stopped = std::io::Error::other("stopped by the test");
                Err(ImportError::io("importing", &self.source, stopped))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "tests stop an import here")]
    fn pass(&mut self) -> Result<(), ImportError> {
        Ok(())
    }
}

fn hash_of(keys: &[u64]) -> u64 {
    let mut hash = Xxh3Default::new();
    for key in keys {
        hash.update(&key.to_le_bytes());
    }
    hash.digest()
}

/// Whether the table has the rows that a journal speaks of: it reaches as far, and the last batch of them is where it was. Some of
/// its rows may have been deleted since, but no other one can have come into the place of the last. A table that was put back to
/// an older state may go on at any larger sequence: there none of them is.
fn is_of_table(snapshot: &AnySnapshot, binding: &Binding, totals: &Totals) -> Result<bool, ImportError> {
    if snapshot.below() < totals.sequence {
        return Ok(false);
    }
    let Some(Landmark { first, last, key }) = totals.landmark else { return Ok(true) };
    let bound = |sequence| i64::try_from(sequence).unwrap_or(i64::MAX);
    let batch = snapshot.filter("sequence", Test::Between { lo: bound(first), hi: bound(last) })?;
    let (mut is_there, mut is_other) = (false, false);
    snapshot.query().filter(&batch).scan(|row| {
        is_there = true;
        is_other |= row.view().sequence() == last && binding.key_of(row)? != key;
        Ok(())
    })?;
    Ok(is_there && !is_other)
}

/// The first sequence of a batch of rows with these keys, where it is in the table; it would have sequences from `from` on.
///
/// A batch is there in whole or not at all, in its order and with sequences that follow each other; some of its rows may have been
/// deleted since, and others may have appended the very same rows. So it is there if at some place at least half of its rows are,
/// and no other one.
fn find_in_table(
    store: &AnyStore,
    binding: &Binding,
    from: u64,
    keys: &[u64],
) -> Result<Option<u64>, ImportError> {
    let snapshot = store.snapshot();
    if snapshot.below() <= from {
        return Ok(None);
    }
    // All rows that were appended since; commonly those of one batch.
    let mut rows: Vec<(u64, u64)> = Vec::new();
    let lo = i64::try_from(from).unwrap_or(i64::MAX);
    let younger = snapshot.filter("sequence", Test::Between { lo, hi: i64::MAX })?;
    snapshot.query().filter(&younger).scan(|row| {
        rows.push((row.view().sequence(), binding.key_of(row)?));
        Ok(())
    })?;
    rows.sort_unstable();

    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, key) in keys.iter().enumerate() {
        places.entry(*key).or_default().push(place);
    }
    let mut tried = HashSet::new();
    for (sequence, key) in &rows {
        for place in places.get(key).into_iter().flatten() {
            let Some(first) = sequence.checked_sub(*place as u64).filter(|first| *first >= from) else {
                continue;
            };
            if first + keys.len() as u64 > snapshot.below() || !tried.insert(first) {
                continue;
            }
            let start = rows.partition_point(|(sequence, _)| *sequence < first);
            let end = rows.partition_point(|(sequence, _)| *sequence < first + keys.len() as u64);
            let is_of_batch = |(sequence, key): &(u64, u64)| {
                usize::try_from(sequence - first).is_ok_and(|place| keys[place] == *key)
            };
            if 2 * (end - start) >= keys.len() && rows[start..end].iter().all(is_of_batch) {
                return Ok(Some(first));
            }
        }
    }
    Ok(None)
}
