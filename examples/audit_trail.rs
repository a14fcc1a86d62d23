//! An audit trail: "who did what, when, and was it allowed?"
//!
//! Appends half a made-up year of actions in an office (18,000, the same each time), month by month, then 40 more one by
//! one, each on disk before it is carried out. The program gets the trail as a type of its own, which can record and
//! answer, and delete nothing. Prints: what was done and refused; what one person did in one week; everything that
//! happened to one document; an action by its id; and, when the law allows it, forgets the oldest two months whole. Every
//! answer is compared with a plain loop over the same actions; the last line says how many comparisons there were.
//!
//! ```text
//! cargo run --release --example audit_trail
//! ```

#![forbid(unsafe_code)]

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use fastrand::Rng;
use jiff::Timestamp;
use keplordb::{GcStats, Schema, Store};
use keplordb_examples::{Checks, human};

/// An action; of the built-in columns, `id` is its number, and `status` says whether it was allowed.
#[derive(Schema)]
#[keplordb(id = 1)]
struct Action {
    #[dim(bloom)]
    actor: String,
    #[dim]
    verb: String,
    #[dim]
    object: String,
    /// What changed, for people to read.
    #[label]
    detail: String,
}

const ALLOWED: u16 = 200;
const REFUSED: u16 = 403;

const ACTORS: [&str; 12] = [
    "ada", "barbara", "claude", "dennis", "edsger", "frances", "grace", "hedy", "ivan", "joan", "karen",
    "leslie",
];
const VERBS: [&str; 5] = ["view", "edit", "approve", "export", "remove"];
const DOCUMENTS: u32 = 400;

const MONTHS: usize = 6;
const ACTIONS_PER_MONTH: usize = 3_000;
const LIVE_ACTIONS: usize = 40;
/// 2026-03-02, 00:00 UTC; months are taken as 30 days.
const BEGIN_NS: i64 = 1_772_409_600_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;
const MONTH_NS: i64 = 30 * DAY_NS;
const SEED: u64 = 19;

/// An action as the program knows it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    id: String,
    ts_ns: i64,
    actor: String,
    verb: String,
    object: String,
    detail: String,
    allowed: bool,
}

impl From<&Entry> for ActionBuilder {
    fn from(entry: &Entry) -> Self {
        let Entry { actor, verb, object, detail, .. } = entry.clone();
        let status = if entry.allowed { ALLOWED } else { REFUSED };
        Action { actor, verb, object, detail }.at(entry.ts_ns).id(&entry.id).status(status)
    }
}

impl From<ActionRow> for Entry {
    fn from(row: ActionRow) -> Self {
        Self {
            id: row.id().to_owned(),
            ts_ns: row.ts_ns(),
            actor: row.actor().to_owned(),
            verb: row.verb().to_owned(),
            object: row.object().to_owned(),
            detail: row.detail().to_owned(),
            allowed: row.status() == ALLOWED,
        }
    }
}

/// All that the rest of the program gets: entries go in and are read. Nothing takes a single one out.
struct AuditTrail {
    store: Store<Action>,
}

impl AuditTrail {
    fn open(dir: &Path) -> Result<Self> {
        Ok(Self { store: Store::open(dir)? })
    }

    /// On return the entry is on disk; the caller may now do what it says.
    fn record(&self, entry: &Entry) -> Result<()> {
        self.store.append_durable(entry)?;
        Ok(())
    }

    /// Takes a month over from elsewhere, whole or not at all, into a segment of its own: retention drops segments.
    fn import_month(&self, entries: &[Entry]) -> Result<()> {
        self.store.append_batch_durable(entries)?;
        self.store.flush()?;
        Ok(())
    }

    fn count(&self, filter: ActionFilter) -> Result<u64> {
        Ok(self.store.query(filter).totals()?.event_count)
    }

    /// Newest first.
    fn entries(&self, filter: ActionFilter, times: Range<i64>) -> Result<Vec<Entry>> {
        let rows = self.store.query(filter).between(times).rows()?;
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    fn entry(&self, id: &str) -> Result<Option<Entry>> {
        Ok(self.store.get(id)?.map(Entry::from))
    }

    /// Drops whole segments all of whose entries are older than the cutoff; none that is younger.
    fn forget_before(&self, cutoff_ns: i64) -> Result<GcStats> {
        Ok(self.store.gc(cutoff_ns)?)
    }
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("audit");
    let mut rng = Rng::with_seed(SEED);
    let mut actions = half_a_year(&mut rng);
    let mut checks = Checks::default();

    let trail = AuditTrail::open(&dir)?;
    for month in actions.chunks(ACTIONS_PER_MONTH) {
        trail.import_month(month)?;
    }
    record_live(&trail, &mut actions, &mut rng, &mut checks)?;
    show_verbs(&trail, &actions, &mut checks)?;
    show_week(&trail, &actions, &mut checks)?;
    let entry = show_document(&trail, &actions, &mut checks)?;
    show_entry(&trail, &entry, &mut checks)?;
    forget(&trail, &mut actions, &mut checks)?;

    drop(trail);
    let trail = AuditTrail::open(&dir)?;
    let kept = trail.entries(Action::filter(), i64::MIN..i64::MAX)?;
    println!("opened again: {} actions, as they were recorded", human::count(kept.len() as u64));
    checks.equal("the trail after a restart", &kept, &newest_first(&actions, |_| true))?;
    println!("\nall {} checks passed", human::count(checks.passed()));
    Ok(())
}

/// Each action is on disk before it is carried out: a sync per call, when nobody else shares it.
fn record_live(
    trail: &AuditTrail,
    actions: &mut Vec<Entry>,
    rng: &mut Rng,
    checks: &mut Checks,
) -> Result<()> {
    let syncs_before = trail.store.stats().syncs;
    let begin_ns = BEGIN_NS + MONTHS as i64 * MONTH_NS;
    for n in 0..LIVE_ACTIONS {
        let entry = an_action(rng, actions.len(), begin_ns + n as i64 * 1_000_000);
        trail.record(&entry)?;
        checks.equal(
            "an action as soon as it is recorded",
            &trail.entry(&entry.id)?.as_ref(),
            &Some(&entry),
        )?;
        actions.push(entry);
    }
    let syncs = trail.store.stats().syncs - syncs_before;
    let all = human::count(actions.len() as u64);
    println!("{all} actions; of the last {LIVE_ACTIONS} each was on disk before it was done");
    checks.equal("at least a sync per action", &(syncs >= LIVE_ACTIONS as u64), &true)
}

fn show_verbs(trail: &AuditTrail, actions: &[Entry], checks: &mut Checks) -> Result<()> {
    println!("\nverb           done   refused");
    for verb in VERBS {
        let done = trail.count(Action::filter().verb(verb).status(ALLOWED..ALLOWED + 1))?;
        let refused = trail.count(Action::filter().verb(verb).status(REFUSED..REFUSED + 1))?;
        println!("  {verb:<10} {:>6} {:>9}", human::count(done), human::count(refused));
        let of_verb =
            |allowed| actions.iter().filter(|entry| entry.verb == verb && entry.allowed == allowed).count();
        checks.equal("actions that were done", &done, &(of_verb(true) as u64))?;
        checks.equal("actions that were refused", &refused, &(of_verb(false) as u64))?;
    }
    Ok(())
}

fn show_week(trail: &AuditTrail, actions: &[Entry], checks: &mut Checks) -> Result<()> {
    let week = BEGIN_NS + 70 * DAY_NS..BEGIN_NS + 77 * DAY_NS;
    let of_grace = trail.entries(Action::filter().actor("grace"), week.clone())?;
    println!("\ngrace, from {} on for a week: {} actions, the last of them", day(week.start), of_grace.len());
    of_grace.iter().take(3).for_each(show);
    let right = newest_first(actions, |entry| entry.actor == "grace" && week.contains(&entry.ts_ns));
    checks.equal("what grace did in a week", &of_grace, &right)?;

    let refused = Action::filter().actor("grace").status(REFUSED..REFUSED + 1);
    let refused = trail.entries(refused, week)?;
    checks.equal(
        "what grace was refused in that week",
        &refused,
        &right.into_iter().filter(|entry| !entry.allowed).collect(),
    )
}

/// Returns the last entry about the document.
fn show_document(trail: &AuditTrail, actions: &[Entry], checks: &mut Checks) -> Result<Entry> {
    let document = "contract/7";
    let history = trail.entries(Action::filter().object(document), i64::MIN..i64::MAX)?;
    println!("\n{document}: {} actions, the last of them", history.len());
    history.iter().take(3).for_each(show);
    checks.equal(
        "a document's history",
        &history,
        &newest_first(actions, |entry| entry.object == document),
    )?;
    history.into_iter().next().context("the document has a history")
}

fn show_entry(trail: &AuditTrail, wanted: &Entry, checks: &mut Checks) -> Result<()> {
    let found = trail.entry(&wanted.id)?;
    println!("\nby its number");
    found.iter().for_each(show);
    checks.equal("an entry by its id", &found.as_ref(), &Some(wanted))?;
    checks.equal("an entry that never was", &trail.entry("action-x")?, &None)
}

fn forget(trail: &AuditTrail, actions: &mut Vec<Entry>, checks: &mut Checks) -> Result<()> {
    // In the middle of the third month, which therefore stays whole.
    let cutoff_ns = BEGIN_NS + 2 * MONTH_NS + MONTH_NS / 2;
    let dropped = trail.forget_before(cutoff_ns)?;
    println!(
        "\nforgot {} actions, which end before {}: {} segments",
        human::count(dropped.events_deleted),
        day(cutoff_ns),
        dropped.segments_deleted
    );
    let before = actions.len();
    actions.retain(|entry| entry.ts_ns >= BEGIN_NS + 2 * MONTH_NS);
    checks.equal("forgotten actions", &dropped.events_deleted, &((before - actions.len()) as u64))?;
    checks.equal("actions that are left", &trail.count(Action::filter())?, &(actions.len() as u64))
}

fn show(entry: &Entry) {
    let Entry { id, actor, verb, object, detail, .. } = entry;
    let allowed = if entry.allowed { "" } else { ": refused" };
    println!("  {}  {id}  {actor} {verb} {object} ({detail}){allowed}", moment(entry.ts_ns));
}

fn moment(ts_ns: i64) -> String {
    Timestamp::from_nanosecond(ts_ns.into())
        .map_or_else(|_| ts_ns.to_string(), |at| at.strftime("%F %T").to_string())
}

fn day(ts_ns: i64) -> String {
    moment(ts_ns).chars().take("2026-03-02".len()).collect()
}

/// No two actions are of the same time.
fn newest_first(actions: &[Entry], wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    actions.iter().rev().filter(|entry| wanted(entry)).cloned().collect()
}

/// In order of time, as many in each month.
fn half_a_year(rng: &mut Rng) -> Vec<Entry> {
    let step_ns = MONTH_NS / ACTIONS_PER_MONTH as i64;
    (0..MONTHS * ACTIONS_PER_MONTH).map(|n| an_action(rng, n, BEGIN_NS + n as i64 * step_ns)).collect()
}

fn an_action(rng: &mut Rng, number: usize, ts_ns: i64) -> Entry {
    // The smaller of two: people view more than they remove.
    let verb = VERBS[rng.usize(..VERBS.len()).min(rng.usize(..VERBS.len()))];
    let amount = rng.u32(1..90_000);
    let allowed = verb == "view" || rng.u32(..20) > 0;
    Entry {
        id: format!("action-{number:05}"),
        ts_ns,
        actor: ACTORS[rng.usize(..ACTORS.len())].to_owned(),
        verb: verb.to_owned(),
        object: format!("contract/{}", rng.u32(..DOCUMENTS)),
        detail: if verb == "edit" { format!("amount is now {amount}") } else { String::from("as it is") },
        allowed,
    }
}
