//! `keplor doctor`: whether a server's root, and the machine under it, are as a server needs them.

mod machine;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use keplordb::{Depth, Options, VerifyReport, verify_dir};
use keplordb_disk::RealDisk;
use keplordb_log::Timestamp;
use keplordb_server::{
    EntityLog, Holder, Keys, LakeState, Origin, Refused, Schemas, ServerError, TypeSummary, holder, is_root,
};
use serde_json::json;

use super::{ms, serve};
use crate::command::{Done, is_overtaken};
use crate::output::{Output, count, counted, with_causes};
use crate::progress::Waiting;

/// Less room than this is none: a segment that takes rows out of memory may have as many bytes.
const FREE_BYTES_MIN: u64 = 128 << 20;
/// Files that a server should be able to have open: connections, segments, and what is made anew meanwhile.
const OPEN_FILES_MIN: u64 = 16_384;
/// How long an event may wait to be published, in milliseconds, while a server runs.
const LAG_MAX_MS: i64 = 60_000;
/// How far ahead of the clock the newest event may be without a word, in milliseconds: clocks are set by less.
const AHEAD_MAX_MS: i64 = 1000;

/// Check a server's root and the machine under it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  keplor doctor data
  keplor doctor data --json

A line for each check: `ok`, `warn`, or `fail` with exit status 1; and what to do. The server may be running: nothing is changed. Where
nobody has the root open, links are tried in it, and removed. Run it as the user of the server. Checksums of all of the log are read;
`keplor verify --full` looks at every value, `keplor replay --check` at every row of the Parquet files.")]
pub(crate) struct Doctor {
    /// The server's root
    root: PathBuf,
    /// Print JSON, an object for each check
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was looked at, and how it is.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do, where something is.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(name, found, remedy) }
    }

    fn print(&self, is_json: bool, out: &mut Output) -> Result<()> {
        let Self { name, state, found, remedy } = self;
        if is_json {
            return out
                .json(&json!({ "check": name, "state": state.name(), "found": found, "remedy": remedy }));
        }
        let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        out.line(&format!("{:<5} {name}: {found}{remedy}", state.name()))
    }
}

impl Doctor {
    pub(crate) fn run(self, out: &mut Output) -> Result<Done> {
        let waiting = Waiting::begin("checking");
        let checks = self.checks()?;
        drop(waiting);
        for check in &checks {
            check.print(self.json, out)?;
        }
        let failed = checks.iter().filter(|check| check.state == State::Fail).count() as u64;
        ensure!(failed == 0, "{failed} of {} failed", counted(checks.len() as u64, "check", "checks"));
        Ok(Done::Well)
    }

    fn checks(&self) -> Result<Vec<Check>> {
        let root = self.root.as_path();
        if !is_root(root) {
            return Ok(vec![no_root(root)]);
        }
        let name = root.display().to_string();
        let shown = serve::quoted(&name);
        let held = holder(root);
        let pid = held.as_ref().ok().and_then(Option::as_ref).and_then(|holder| holder.pid);
        let is_held = !matches!(held, Ok(None));

        let log_dir = root.join("segments");
        let verified = log_dir.is_dir().then(|| verify_dir(&log_dir, &Options::default(), Depth::Quick));
        // Before the log is read, so that it is not behind what is published.
        let lake = LakeState::beside(root);
        let read = log_dir.is_dir().then(|| read(root)).transpose();
        if let Err(error) = &read
            && is_overtaken(error)
        {
            return read.map(|_| Vec::new());
        }

        let now_ms = ms(Timestamp::now());
        let types = read.as_ref().ok().and_then(Option::as_ref).map(|(_, types)| types.as_slice());
        let lake_found = lake.as_ref().ok().and_then(Option::as_ref);
        let log_bytes = verified.as_ref().and_then(|verified| Some(verified.as_ref().ok()?.bytes));
        let mut checks = vec![
            Check::ok("root", format!("{name} is a server's root")),
            server(&held),
            log(&shown, verified.as_ref(), &read),
            schemas(root),
            keys(root, &shown),
            lake_files(&shown, &lake, is_held),
        ];
        // What cannot be read was said.
        if let (Ok(log), Ok(_)) = (&read, &lake) {
            checks.push(published(&shown, lake_found, log.as_ref(), is_held, now_ms));
        }
        checks.extend(types.and_then(|types| clock(types, now_ms)));
        checks.push(disk(root, log_bytes.unwrap_or(0), lake_found.map_or(0, |lake| lake.bytes)));
        checks.extend(open_files(pid));
        checks.push(links(root, is_held, lake_found));
        checks.extend(leftovers(root));
        Ok(checks)
    }
}

/// The log, and the types of which it has events.
fn read(root: &Path) -> Result<(EntityLog, Vec<TypeSummary>)> {
    let log = EntityLog::beside(root)?;
    let types = log.types()?;
    Ok((log, types))
}

fn no_root(root: &Path) -> Check {
    let name = root.display();
    if root.join(DRAFT).is_dir() {
        let found = format!("{name} is a copy that was cut off");
        return Check::fail("root", found, "remove the directory, and make the copy again");
    }
    let found = if root.exists() {
        format!("{name} is no root of a server: it has no _meta")
    } else {
        format!("{name} is not there")
    };
    Check::fail("root", found, "give the directory that is given to `keplor serve`, which makes one")
}

/// What a copy has instead of `_meta` until it is whole.
const DRAFT: &str = "_meta.draft";

fn server(held: &Result<Option<Holder>, ServerError>) -> Check {
    match held {
        Ok(Some(Holder { pid: Some(pid), .. })) => Check::ok("server", format!("open by process {pid}")),
        Ok(Some(_)) => Check::ok("server", "open by a process that does not say its number"),
        Ok(None) => Check::ok("server", "no process has it open"),
        Err(error) => Check::fail("server", error.to_string(), AS_USER),
    }
}

const AS_USER: &str = "run this as the user of the server";

fn log(
    root: &str,
    verified: Option<&keplordb::Result<VerifyReport>>,
    read: &Result<Option<(EntityLog, Vec<TypeSummary>)>>,
) -> Check {
    const NAME: &str = "log";
    let verify = format!("`keplor verify {root}` lists all that is wrong, and what to do");
    let report = match verified {
        None => return Check::ok(NAME, "there is none yet"),
        Some(Err(error)) => return Check::fail(NAME, error.to_string(), AS_USER),
        Some(Ok(report)) => report,
    };
    if let Some(first) = report.problems.first() {
        let problems = counted(report.problems.len() as u64, "problem", "problems");
        let found = format!("{problems}; the first: {}: {}", first.file.display(), first.what);
        return Check::fail(NAME, found, verify);
    }
    let types = match read {
        Err(error) => return Check::fail(NAME, with_causes(error), verify),
        Ok(found) => found.as_ref().map_or(&[][..], |(_, types)| types.as_slice()),
    };
    let found = format!(
        "{} of {}, {} in {}",
        counted(events(types), "event", "events"),
        counted(types.len() as u64, "type", "types"),
        counted(report.bytes, "byte", "bytes"),
        counted(report.files, "file", "files")
    );
    if report.is_clean() {
        return Check::ok(NAME, found);
    }
    let torn: u64 = report.torn_tails.iter().map(|torn| torn.bytes).sum();
    let found = format!("{found}, {} of them of an unfinished write", count(torn));
    Check::warn(NAME, found, "a crash leaves such; the next start of a server cuts them off")
}

fn events(types: &[TypeSummary]) -> u64 {
    types.iter().map(|of_type| of_type.events).sum()
}

fn schemas(root: &Path) -> Check {
    const NAME: &str = "schemas";
    match Schemas::beside(root) {
        Err(error) => {
            Check::fail(NAME, error.to_string(), "bring the files of _meta/schemas back from a copy")
        }
        Ok(schemas) => Check::ok(
            NAME,
            schemas.newest().map_or("none: any type is taken".to_owned(), |newest| {
                let types = counted(newest.types().len() as u64, "type", "types");
                format!("version {}, with {types}", newest.version())
            }),
        ),
    }
}

fn keys(root: &Path, shown: &str) -> Check {
    const NAME: &str = "keys";
    let file = Keys::file(root);
    let keys = match Keys::load(root) {
        Ok(keys) => keys,
        // What is wrong with the keys says what to do.
        Err(error @ ServerError::Keys { .. }) => {
            return Check::fail(NAME, error.to_string(), "a server does not start with it");
        }
        Err(error) => return Check::fail(NAME, error.to_string(), AS_USER),
    };
    if !file.exists() {
        return Check::ok(
            NAME,
            "none: every program on this machine may do everything, and no other machine",
        );
    }
    let now = jiff::Timestamp::now();
    let good = keys.all().iter().filter(|key| key.is_good_at(now)).count();
    let of = format!("{good} of {} good", counted(keys.all().len() as u64, "key", "keys"));
    if good == 0 {
        let remedy = format!("every request is refused; `keplor keys add {shown}` makes one");
        return Check::warn(NAME, of, remedy);
    }
    match RealDisk.mode(&file) {
        Ok(Some(mode)) if mode & 0o077 != 0 => {
            let remedy = format!("`chmod 600 {}` lets its owner only", file.display());
            Check::warn(NAME, format!("{of}, and others may use their file (mode {mode:o})"), remedy)
        }
        Ok(_) => Check::ok(NAME, of),
        Err(error) => Check::fail(NAME, format!("{}: {error}", file.display()), AS_USER),
    }
}

fn lake_files(root: &str, lake: &Result<Option<LakeState>, ServerError>, is_held: bool) -> Check {
    const NAME: &str = "lake";
    match lake {
        Err(error @ ServerError::Foreign { .. }) => {
            Check::fail(NAME, error.to_string(), "until then nothing is published")
        }
        // A manifest in a form that this program does not know; one that is torn is passed over.
        Err(error @ ServerError::Lake { .. }) => {
            Check::fail(NAME, error.to_string(), "a newer keplor has published here: use that one")
        }
        Err(error) => Check::fail(NAME, error.to_string(), AS_USER),
        Ok(None) => Check::ok(NAME, "nothing was published yet"),
        Ok(Some(LakeState { damage: Some(damage), is_newer: true, .. })) => {
            let remedy = "a newer keplor has published here: use that one, or this one makes the files anew by older rules";
            Check::fail(NAME, damage.clone(), remedy)
        }
        Ok(Some(LakeState { damage: Some(damage), .. })) => {
            let remedy = format!(
                "the next start of a server makes the files anew from the log, or `keplor replay {root}`; where the log has dropped events, \
                 only those below `tables`: bring back the others from a copy"
            );
            Check::fail(NAME, damage.clone(), remedy)
        }
        Ok(Some(lake)) => {
            let n = lake.n;
            let unseen = format!("the links that other programs follow do not lead to publication {n}");
            match (lake.is_live, is_held) {
                (true, _) => {
                    let bytes = counted(lake.bytes, "byte", "bytes");
                    let files = counted(lake.files, "file", "files");
                    Check::ok(NAME, format!("{bytes} of {files}, publication {n}"))
                }
                (false, true) => {
                    let remedy = "it may be under way: ask again, then see the server's log";
                    Check::warn(NAME, unseen, remedy)
                }
                (false, false) => Check::fail(NAME, unseen, "the next start of a server mends them"),
            }
        }
    }
}

fn published(
    root: &str,
    lake: Option<&LakeState>,
    read: Option<&(EntityLog, Vec<TypeSummary>)>,
    is_held: bool,
    now_ms: i64,
) -> Check {
    const NAME: &str = "published";
    let published = lake.map_or(0, |lake| lake.events);
    let of_published = counted(published, "event is", "events are");
    let Some((log, types)) = read else {
        if published == 0 {
            return Check::ok(NAME, "nothing");
        }
        let found = format!("{of_published} published, and the log of which they were made is gone");
        return Check::fail(NAME, found, "bring the directory `segments` back from a copy");
    };
    let checkpoint = lake.map_or(0, |lake| lake.checkpoint_seq);
    let looked = || {
        let origin = lake.map_or(Ok(Origin::Same), |lake| lake.origin(log))?;
        Ok::<_, Refused>((origin, log.behind(checkpoint)?))
    };
    let (origin, behind) = match looked() {
        Ok(looked) => looked,
        Err(refused) => {
            return Check::fail(NAME, refused.to_string(), format!("`keplor verify {root}` says more"));
        }
    };
    let of_place = match origin {
        Origin::Other => Some("which is another one in the log"),
        Origin::Missing => Some("which the log does not have, and does not say that it has dropped"),
        _ => None,
    };
    if let Some(of_place) = of_place {
        let found = format!("{of_published} published up to one of the sequence {checkpoint}, {of_place}");
        let remedy = format!(
            "bring back the log of which they were made, unless `keplor gc` dropped it and that was forgotten with the log's manifest; or \
             publish this one by `keplor replay {root}` while no server runs: the published events that it does not have are lost by that"
        );
        return Check::fail(NAME, found, remedy);
    }
    // Types were counted before, and the log seen by all is the same.
    let of_log = events(types).saturating_sub(behind.events);
    // Of what was dropped some may have been published, and some not; more cannot have been.
    let gaps = log.gaps();
    let dropped: u64 = gaps.iter().filter(|gap| gap.first <= checkpoint).map(|gap| gap.events).sum();
    let found = format!("{of_published} published, and the log has {} up to the last of them", count(of_log));
    if published < of_log {
        return Check::fail(
            NAME,
            found,
            format!("`keplor replay {root}` makes the files anew, while no server runs"),
        );
    }
    if published > of_log.saturating_add(dropped) {
        let found = format!("{found}, and has dropped {}", count(dropped));
        // What was dropped is not known any more after the log's manifest was made anew.
        let remedy = "bring the directory `segments` back from a copy, unless `keplor gc` dropped the others; until then the published files \
                      alone have them: keep these";
        return Check::fail(NAME, found, remedy);
    }
    let all = match published - of_log {
        0 => format!("all {}", counted(published, "event", "events")),
        gone => format!(
            "all {}, of which the log has dropped {}",
            counted(published, "event", "events"),
            count(gone)
        ),
    };
    let Some(first_ms) = behind.first_received_ms else {
        return Check::ok(NAME, all);
    };
    let lag_ms = now_ms.saturating_sub(first_ms).max(0);
    let wait = if behind.events == 1 { "waits" } else { "wait" };
    let seconds = count(u64::try_from(lag_ms / 1000).unwrap_or(0));
    let found = format!("{} {wait}, for {seconds} s", counted(behind.events, "event", "events"));
    if is_held && lag_ms > LAG_MAX_MS {
        let remedy = "see the server's log for why, and its --publish for how often it is done";
        return Check::warn(NAME, found, remedy);
    }
    Check::ok(NAME, if is_held { found } else { format!("{found}; a server publishes what waits") })
}

/// Nothing where nothing was captured.
fn clock(types: &[TypeSummary], now_ms: i64) -> Option<Check> {
    const NAME: &str = "clock";
    let newest_ms = types.iter().map(|of_type| of_type.last_received_ms).max()?;
    let ahead_ms = newest_ms.saturating_sub(now_ms);
    if ahead_ms <= AHEAD_MAX_MS {
        return Some(Check::ok(NAME, "the newest event came in before now"));
    }
    let seconds = count(u64::try_from(ahead_ms / 1000).unwrap_or(0));
    let found = format!("the newest event came in {seconds} s later than now");
    Some(Check::warn(
        NAME,
        found,
        "set the clock right; until it is that late all events come in at that time",
    ))
}

fn disk(root: &Path, log_bytes: u64, lake_bytes: u64) -> Check {
    const NAME: &str = "disk";
    let Some(free) = machine::free_bytes(root) else {
        return Check::warn(NAME, "this system does not tell how much room there is", "look for yourself");
    };
    let used = log_bytes.saturating_add(lake_bytes);
    let found = format!("{} bytes are free, log and lake have {}", count(free), count(used));
    if free < FREE_BYTES_MIN {
        return Check::fail(NAME, found, "make room, or no event can be taken soon");
    }
    if free < used {
        let remedy = "make room: a replay or a compaction writes up to as much anew before the old goes";
        return Check::warn(NAME, found, remedy);
    }
    Check::ok(NAME, found)
}

/// Nothing where the system does not tell.
fn open_files(pid: Option<u32>) -> Option<Check> {
    const NAME: &str = "open files";
    // That of another user's process is not told.
    let of_server = pid.and_then(machine::open_files_max);
    let most = of_server.or_else(|| machine::open_files_max(std::process::id()))?;
    if most == u64::MAX {
        return Some(Check::ok(NAME, "as many as it likes"));
    }
    let found = format!("at most {}", count(most));
    if most < OPEN_FILES_MIN {
        let most = count(OPEN_FILES_MIN);
        let remedy = format!(
            "connections and segments are files: let a server have {most} (`ulimit -n`, LimitNOFILE)"
        );
        return Some(Check::warn(NAME, found, remedy));
    }
    Some(Check::ok(NAME, found))
}

fn links(root: &Path, is_held: bool, lake: Option<&LakeState>) -> Check {
    const NAME: &str = "links";
    const NEEDED: &str =
        "files are published by hard and symbolic links: bring the root to a disk that has them";
    if lake.is_some_and(|lake| lake.is_live) && is_held {
        return Check::ok(NAME, "the server publishes by them");
    }
    if is_held {
        return Check::ok(
            NAME,
            "not tried, since a process has the root open and has not published by them yet",
        );
    }
    match machine::try_links(root) {
        Ok(None) => Check::ok(NAME, "hard and symbolic links can be made"),
        Ok(Some(missing)) => Check::fail(NAME, missing, NEEDED),
        Err(error) => Check::warn(NAME, format!("not tried: {error}"), AS_USER),
    }
}

/// What a copy into this directory left that did not come to its end.
fn leftovers(root: &Path) -> Option<Check> {
    let draft = root.join(DRAFT);
    draft.exists().then(|| {
        let found = format!("{} is left of a copy that did not come to its end", draft.display());
        Check::warn("leftovers", found, "remove it")
    })
}
