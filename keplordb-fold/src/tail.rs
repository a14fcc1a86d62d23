//! Mending the end of the active log: what a crash, or another program, left there that is no line.
//!
//! A line that is whole but for its newline gets it. What cannot be one is copied to `damaged/` and cut off; where good lines stand
//! behind it, it is made empty lines, so that no offset changes. A batch that was not committed, its first line beginning with '#',
//! goes the same way with all that is behind it. Whoever mends has the turn.

use std::io;
use std::ops::Range;

use keplordb_disk::{Disk, DiskFile};

use crate::ahead::LINE_BYTES_MAX;
use crate::aside::set_aside;
use crate::error::at;
use crate::event::Event;
use crate::lines::UNCOMMITTED_LINE;
use crate::paths::Paths;

/// How much is read at once.
const READ_BYTES: u64 = 256 << 10;

/// How the end came to be what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Others appended. What they wrote as whole lines is theirs, events or not.
    Others,
    /// A writer did not come to its end. What it wrote was lines that are events, so any that is none is what a crash made of it.
    Crash,
}

/// The active log, to be mended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) paths: &'a Paths,
    pub(crate) file: &'a dyn DiskFile,
}

/// What is to be done about the lines that were looked at.
#[derive(Debug, Default)]
struct Findings {
    /// Bytes that are no lines, in order; neighbours are joined.
    damaged: Vec<Range<u64>>,
    /// Where the '{' of a batch is missing that was being committed.
    uncommitted_at: Vec<u64>,
    /// Whether the last line lacks its newline and nothing else.
    lacks_newline: bool,
}

impl Findings {
    /// Takes back batches that may lack lines, and all behind them; returns whether there are any.
    ///
    /// A power cut may also have left a hole where the '#' of a batch was to be, as if its commit were torn. But before a commit is
    /// written, all of the batch is synced; so where damage lies behind such a place it is no commit, and nothing behind it counts.
    fn doubt_batches(&mut self, end: u64) -> bool {
        let doubtful = self.damaged.iter().find_map(|damage| {
            let before = self.uncommitted_at.partition_point(|at_byte| *at_byte < damage.start);
            self.uncommitted_at.get(before.checked_sub(1)?).copied()
        });
        if let Some(begin) = doubtful {
            self.uncommitted_at.retain(|at_byte| *at_byte < begin);
            self.damaged.retain(|damage| damage.start < begin);
            self.damaged(begin..end);
        }
        doubtful.is_some()
    }

    fn damaged(&mut self, range: Range<u64>) {
        match self.damaged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.damaged.push(range),
        }
    }
}

impl Tail<'_> {
    /// Mends the log from the line on that `from` is in, and returns its length, behind a newline. Nothing is changed where
    /// nothing is wrong, and nothing that is done need be durable: what remains undone after a crash is done by the next.
    ///
    /// Cost: reads the log from there on.
    pub(crate) fn mend(&self, from: u64, cause: Cause) -> io::Result<u64> {
        self.mend_after(from, cause, &|_| Ok(()))
    }

    /// The same, and tells where the first damage is before anything is done about it.
    pub(crate) fn mend_after(
        &self,
        from: u64,
        cause: Cause,
        tell: &dyn Fn(u64) -> io::Result<()>,
    ) -> io::Result<u64> {
        let end = self.bytes()?;
        let from = self.line_start(from.min(end))?;
        let findings = self.look(from..end, cause, LINE_BYTES_MAX)?;
        if let Some(first) = findings.damaged.first() {
            tell(first.start)?;
        }
        for at_byte in findings.uncommitted_at {
            self.file.write_at(b"{", at_byte).map_err(at("commit a batch in", &self.paths.log))?;
        }
        for range in findings.damaged {
            set_aside(self.disk, self.paths, (self.file, "app.jsonl"), range.clone())?;
            if range.end == end {
                if self.bytes()? != end {
                    // Somebody appended meanwhile, and what follows was not looked at.
                    return self.mend_after(from, cause, tell);
                }
                self.file.truncate(range.start).map_err(at("cut", &self.paths.log))?;
                return Ok(range.start);
            }
            self.empty(range)?;
        }
        if findings.lacks_newline {
            // Were somebody to append at this moment, the newline would be behind that, and no harm done.
            let appender = self.disk.open_append(&self.paths.log).map_err(at("open", &self.paths.log))?;
            appender.append(b"\n").map_err(at("write", &self.paths.log))?;
        }
        self.bytes()
    }

    /// Writes what is there from `from` on once more, so that the next sync writes it to the disk: after a failed one the system may
    /// believe that it is there.
    pub(crate) fn write_again(&self, from: u64) -> io::Result<()> {
        let (mut from, end) = (from, self.bytes()?);
        while from < end {
            let piece = self.read(from..end.min(from + READ_BYTES))?;
            if piece.is_empty() {
                break;
            }
            self.file.write_at(&piece, from).map_err(at("write", &self.paths.log))?;
            from += piece.len() as u64;
        }
        Ok(())
    }

    /// Where the line begins that the byte before `end` belongs to; `end` itself behind a newline.
    pub(crate) fn line_start(&self, end: u64) -> io::Result<u64> {
        let mut before = end;
        while before > 0 {
            let from = before.saturating_sub(READ_BYTES);
            let piece = self.read(from..before)?;
            if let Some(newline) = memchr::memrchr(b'\n', &piece) {
                return Ok(from + newline as u64 + 1);
            }
            before = from;
        }
        Ok(0)
    }

    /// Looks at the lines of this range, which begins with one.
    fn look(&self, range: Range<u64>, cause: Cause, line_bytes_max: usize) -> io::Result<Findings> {
        let mut findings = Findings::default();
        let (mut start, mut read_to) = (range.start, range.start);
        // What was read behind `start`, but for the beginning of a line that is longer than any can be.
        let mut text: Vec<u8> = Vec::new();
        let mut passed_bytes = 0;
        let mut follows_empty = false;
        while read_to < range.end {
            let piece = self.read(read_to..range.end.min(read_to + READ_BYTES))?;
            if piece.is_empty() {
                break;
            }
            read_to += piece.len() as u64;
            let searched = text.len();
            text.extend_from_slice(&piece);
            let mut line_at = 0;
            for newline in memchr::memchr_iter(b'\n', &piece) {
                let line = text.get(line_at..searched + newline).unwrap_or_default();
                let end = start + passed_bytes + line.len() as u64 + 1;
                let is_too_long = passed_bytes > 0;
                passed_bytes = 0;
                if !is_too_long && is_uncommitted(line, cause) {
                    if !findings.doubt_batches(range.end) {
                        findings.damaged(start..range.end);
                    }
                    return Ok(findings);
                }
                if cause == Cause::Crash && is_too_long {
                    findings.damaged(start..end);
                } else if cause == Cause::Crash && !line.is_empty() && !is_event(line) {
                    // The byte that commits a batch is the only one that is ever overwritten, and a power cut may leave any other
                    // in its place. The rest of the batch was synced before.
                    if let Some(rest) = line.get(1..).filter(|rest| is_committed(rest)) {
                        debug_assert!(!rest.is_empty());
                        findings.uncommitted_at.push(start);
                    } else if follows_empty && is_committed(line) {
                        findings.uncommitted_at.push(start - 1);
                    } else {
                        findings.damaged(start..end);
                    }
                }
                follows_empty = line.is_empty() && !is_too_long;
                line_at += line.len() + 1;
                start = end;
            }
            text.drain(..line_at);
            if text.len() > line_bytes_max {
                passed_bytes += text.len() as u64;
                text.clear();
            }
        }
        match text.as_slice() {
            [] if passed_bytes == 0 => {}
            line if passed_bytes == 0 && is_event(line) => findings.lacks_newline = true,
            _ => findings.damaged(start..range.end),
        }
        findings.doubt_batches(range.end);
        Ok(findings)
    }

    /// Makes empty lines of a range.
    fn empty(&self, range: Range<u64>) -> io::Result<()> {
        let newlines = vec![b'\n'; usize::try_from(READ_BYTES.min(range.end - range.start)).unwrap_or(1)];
        let mut from = range.start;
        while from < range.end {
            let bytes = usize::try_from(range.end - from).unwrap_or(usize::MAX).min(newlines.len());
            let piece = newlines.get(..bytes).unwrap_or(&newlines);
            self.file.write_at(piece, from).map_err(at("write", &self.paths.log))?;
            from += piece.len() as u64;
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        let read = self.file.read_at(&mut piece, range.start).map_err(at("read", &self.paths.log))?;
        piece.truncate(read);
        Ok(piece)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes().map_err(at("read", &self.paths.log))
    }
}

/// Whether the line is an event, by the rules that readers have.
pub(crate) fn is_event(line: &[u8]) -> bool {
    Event::of_line(line).is_ok()
}

/// Whether a batch begins here that was not committed. Of one that was being written when the power failed there may be holes.
fn is_uncommitted(line: &[u8], cause: Cause) -> bool {
    line.starts_with(UNCOMMITTED_LINE)
        || cause == Cause::Crash
            && line.len() >= UNCOMMITTED_LINE.len()
            && line.first() == UNCOMMITTED_LINE.first()
            && line.iter().zip(UNCOMMITTED_LINE).all(|(byte, batch)| byte == batch || *byte == 0)
}

/// Whether this is an event but for the '{' that it begins with.
fn is_committed(rest: &[u8]) -> bool {
    rest.first() == Some(&b'"') && is_event(&[b"{", rest].concat())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use keplordb_disk::{MemoryDisk, read_all};

    use super::*;
    use crate::lines::UNCOMMITTED;

    const A: &str = "{\"type\":\"a\",\"data\":1,\"ts\":1}\n";

    fn mended(text: &[u8], from: usize, cause: Cause) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
        let disk = MemoryDisk::default();
        let paths = Paths::new(Path::new("app"));
        disk.create_dir(&paths.dir).unwrap();
        let file = disk.create(&paths.log).unwrap();
        file.write_at(text, 0).unwrap();
        let tail = Tail { disk: &disk, paths: &paths, file: &*file };
        let end = tail.mend(from as u64, cause).unwrap();
        let left = read_all(&disk, &paths.log, u64::MAX).unwrap();
        assert_eq!(end, left.len() as u64);
        // Mending what is mended changes nothing.
        assert_eq!(tail.mend(from as u64, cause).unwrap(), end);
        assert_eq!(read_all(&disk, &paths.log, u64::MAX).unwrap(), left);
        let aside = disk.list(&paths.damaged).unwrap_or_default().into_iter().map(|entry| {
            let bytes = read_all(&disk, &paths.damaged.join(&entry.name), u64::MAX).unwrap();
            let name = entry.name.rsplit_once('-').unwrap().0.to_owned();
            (name, bytes)
        });
        (left, aside.collect())
    }

    #[test]
    fn only_an_end_that_is_no_line_is_touched() {
        let whole = A.trim_end();
        for (text, left, aside) in [
            (String::new(), String::new(), None),
            (A.repeat(2), A.repeat(2), None),
            (format!("{A}{whole}"), A.repeat(2), None),
            (format!("{A}{whole}\r"), format!("{A}{whole}\r\n"), None),
            (format!("{A}not an event\n"), format!("{A}not an event\n"), None),
            (format!("{A}{}", &whole[..9]), A.to_owned(), Some((A.len(), whole[..9].to_owned()))),
            ("{".to_owned(), String::new(), Some((0, "{".to_owned()))),
            (format!("{A}#{}{A}", &A[1..]), A.to_owned(), Some((A.len(), format!("#{}{A}", &A[1..])))),
            (format!("{A}#"), A.to_owned(), Some((A.len(), "#".to_owned()))),
        ] {
            let from = text.len();
            let from = if text.contains("#{") || text.contains("#\"") { 0 } else { from };
            let (mended, set_aside) = mended(text.as_bytes(), from, Cause::Others);
            assert_eq!(String::from_utf8(mended).unwrap(), left, "{text}");
            let aside: Vec<_> = aside
                .into_iter()
                .map(|(offset, bytes)| (format!("app.jsonl-{offset}"), bytes.into_bytes()))
                .collect();
            assert_eq!(set_aside, aside, "{text}");
        }
    }

    #[test]
    fn what_a_crash_left_among_good_lines_becomes_empty_ones() {
        let hole = [0; 20];
        let text =
            [A.as_bytes(), &hole, b"\n", &A.as_bytes()[3..], A.as_bytes(), &hole, b"\n", &hole].concat();
        let (left, aside) = mended(&text, 0, Cause::Crash);
        let newlines = [b'\n'; 21 + 27];
        assert_eq!(left, [A.as_bytes(), &newlines[..21 + A.len() - 3], A.as_bytes()].concat());
        assert_eq!(aside.len(), 2);
        // Lines from before the session are not the crash's.
        let (left, aside) = mended(&text[..text.len() - 41], text.len() - 41, Cause::Crash);
        assert_eq!((left.len(), aside.len()), (text.len() - 41, 0));
    }

    #[test]
    fn an_event_whose_keys_mean_something_to_a_parser_outlives_a_crash() {
        for key in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            for value in ["1", "\"[1]\"", "\"no JSON\""] {
                let object = format!("{{\"{key}\":{value}}}");
                let text = format!(
                    "{A}{{\"type\":\"a\",\"data\":{object},\"ts\":1}}\n\
                     {{\"type\":\"a\",\"data\":[{object}],\"ts\":1,\"meta\":{object}}}\n{A}"
                );
                let (left, aside) = mended(text.as_bytes(), 0, Cause::Crash);
                assert_eq!((String::from_utf8(left).unwrap(), aside), (text, Vec::new()));
            }
        }
    }

    #[test]
    fn a_remark_of_another_program_hides_nothing() {
        let remark = "# a remark\n";
        let text = [A, remark, A].concat();
        assert_eq!(mended(text.as_bytes(), 0, Cause::Others).0, text.as_bytes());
        // It is no event, and a crash may have made it so; what stands behind it stays.
        let (left, aside) = mended(text.as_bytes(), 0, Cause::Crash);
        assert_eq!(left, [A, &"\n".repeat(remark.len()), A].concat().as_bytes());
        assert_eq!(aside[0].1, remark.as_bytes());
        // A batch with a hole in its beginning is one all the same.
        let hole = [A.as_bytes(), b"#\"ty\0\0\0\0\0\0\0\n", A.as_bytes()].concat();
        assert_eq!(mended(&hole, A.len(), Cause::Crash).0, A.as_bytes());
    }

    #[test]
    fn a_batch_whose_commit_was_torn_is_committed() {
        for byte in 0..=u8::MAX {
            let text = [A.as_bytes(), &[byte], &A.as_bytes()[1..], A.as_bytes()].concat();
            let (left, aside) = mended(&text, A.len(), Cause::Crash);
            let kept = if byte == UNCOMMITTED { 1 } else { 3 };
            assert_eq!(String::from_utf8_lossy(&left), A.repeat(kept), "byte {byte}");
            assert_eq!(aside.len(), usize::from(byte == UNCOMMITTED));
        }
    }

    #[test]
    fn a_batch_whose_first_byte_never_came_is_there_as_a_whole_or_not_at_all() {
        let lost = ["\0", &A[1..]].concat();
        for (text, left) in [
            ([A, &lost, A].concat(), A.repeat(3)),
            ([A, &lost, A, "\0\0\0\0\n", A].concat(), A.to_owned()),
            ([A, &lost, A, "\0\0\0\0"].concat(), A.to_owned()),
            ([A, &lost, &A[..9]].concat(), A.to_owned()),
            // An earlier batch is whole where another begins behind it.
            ([A, &lost, A, &lost, "\0\0\n", A].concat(), A.repeat(3)),
            ([A, &lost, "\0\0\n", A, "#", &A[1..]].concat(), A.to_owned()),
            ([A, &lost, A, "#", &A[1..]].concat(), A.repeat(3)),
            // Damage before it is not its own.
            ([A, "\0\0\n", &lost, A].concat(), [A, "\n\n\n", A, A].concat()),
        ] {
            let (mended, aside) = mended(text.as_bytes(), A.len(), Cause::Crash);
            assert_eq!(String::from_utf8_lossy(&mended), left, "{}", text.escape_debug());
            assert_eq!(aside.len(), usize::from(text.len() != left.len() || left.contains("\n\n")));
        }
    }

    #[test]
    fn a_line_that_nobody_can_read_is_damage_and_takes_no_memory() {
        let long = format!("{{\"type\":\"a\",\"data\":\"{}\",\"ts\":1}}\n", "x".repeat(900_000));
        let disk = MemoryDisk::default();
        let paths = Paths::new(Path::new("app"));
        disk.create_dir(&paths.dir).unwrap();
        let file = disk.create(&paths.log).unwrap();
        let tail = Tail { disk: &disk, paths: &paths, file: &*file };
        let (short, long_bytes) = (A.len() as u64, long.len() as u64);
        let torn = &long[..long.len() - 1];
        let behind = short + long_bytes + short;
        for (text, crash, others) in [
            ([A, &long, A].concat(), vec![(short, short + long_bytes)], vec![]),
            (
                [A, &long, A, torn].concat(),
                vec![(short, short + long_bytes), (behind, behind + long_bytes - 1)],
                vec![(behind, behind + long_bytes - 1)],
            ),
        ] {
            file.truncate(0).unwrap();
            file.write_at(text.as_bytes(), 0).unwrap();
            for (cause, damaged) in [(Cause::Crash, crash), (Cause::Others, others)] {
                let findings = tail.look(0..text.len() as u64, cause, 500_000).unwrap();
                let found: Vec<_> = findings.damaged.iter().map(|range| (range.start, range.end)).collect();
                assert_eq!(found, damaged, "{cause:?}");
                assert!(!findings.lacks_newline && findings.uncommitted_at.is_empty());
            }
        }
    }

    #[test]
    fn long_lines_are_mended_too() {
        let long = format!("{{\"type\":\"a\",\"data\":\"{}\",\"ts\":1}}", "x".repeat(700_000));
        let text = [A, &long].concat();
        assert_eq!(
            mended(text.as_bytes(), text.len(), Cause::Others).0,
            [A, &long, "\n"].concat().as_bytes()
        );
        let (left, aside) = mended(&text.as_bytes()[..text.len() - 1], text.len(), Cause::Others);
        assert_eq!(left, A.as_bytes());
        assert_eq!(aside[0].1, &long.as_bytes()[..long.len() - 1]);
    }
}
