//! The inventory of three shops as a log of typed commands, with undo and redo that outlive the program.
//!
//! The inventory is a large structure that is changed by small commands, and the commands are what is stored: receive, ship,
//! move, set a price, undo, redo. Whoever opens the log plays them back and has the inventory, and what can be undone, as
//! they were when the program ended; playing back only what is older than a time gives the inventory of that time.
//!
//! The program works a made-up day of 4,000 commands, some of them undone and redone, and some refused before they come into the
//! log. It ends without a word, opens again, goes on undoing where it had stopped, and asks what it knew at noon. Then a
//! newer program has left a command that this one does not know: it is told by file, offset and time, and passed over.
//! Each state is compared with one that a plain loop makes from those commands that were not undone.
//!
//! ```text
//! cargo run --release --example commands_log
//! ```

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use keplordb_examples::{Checks, human};
use keplordb_log::{Json, Log, LogError, Timestamp, TypedReader, TypedWriter};
use serde::{Deserialize, Serialize};

const COMMANDS: usize = 4_000;
const SEED: u64 = 9;
const SHOPS: [&str; 3] = ["Basel", "Bern", "Chur"];
const KINDS: [&str; 8] = ["bolt", "bracket", "hinge", "hook", "nut", "rivet", "screw", "washer"];
const SIZES: u32 = 40;

/// What may happen to the inventory. As JSON, so that `keplor log cat` shows it to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Command {
    Receive {
        article: String,
        shop: usize,
        pieces: u32,
    },
    Ship {
        article: String,
        shop: usize,
        pieces: u32,
    },
    Move {
        article: String,
        from: usize,
        to: usize,
        pieces: u32,
    },
    Price {
        article: String,
        cents: u32,
    },
    /// Takes back the last command that is not undone.
    Undo,
    /// Does again what was undone last, unless something else was done since.
    Redo,
}

impl Command {
    /// The article that it changes; of undo and redo the log alone tells.
    fn article(&self) -> Option<&str> {
        match self {
            Self::Receive { article, .. }
            | Self::Ship { article, .. }
            | Self::Move { article, .. }
            | Self::Price { article, .. } => Some(article),
            Self::Undo | Self::Redo => None,
        }
    }
}

fn main() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let log = Log::open(temporary.path().join("commands"))?;
    let mut checks = Checks::default();

    let (evening, plain, noon) = work(&log, &mut checks)?;
    let again = open_again(&log, &evening, &mut checks)?;
    undo_over_the_restart(&log, again, plain, &mut checks)?;
    as_it_was(&log, &noon, &mut checks)?;
    pass_over_what_is_unknown(&log, &mut checks)?;

    println!("\nall {} checks passed", checks.passed());
    Ok(())
}

/// A day's work. Returns the inventory in the evening, the commands that count, and time and articles of noon.
fn work(log: &Log, checks: &mut Checks) -> Result<(Inventory, Plain, (Timestamp, Articles))> {
    let writer = TypedWriter::new(Arc::new(log.writer()?), Json);
    let (mut inventory, mut plain) = (Inventory::default(), Plain::default());
    let mut noon = None;
    let (mut refused, mut rng) = (0_u64, Rng::with_seed(SEED));
    for number in 0..COMMANDS {
        let command = draw(&mut rng);
        match perform(&writer, &mut inventory, &command)? {
            Some(time) => {
                plain.take(&command);
                noon = noon.or((number >= COMMANDS / 2).then(|| (time, inventory.articles.clone())));
            }
            None => refused += 1,
        }
    }
    checks.equal("the evening", &inventory.articles, &plain.articles()?)?;
    let noon = noon.ok_or_else(|| anyhow::anyhow!("no command after noon"))?;
    println!(
        "{} commands, {} more were refused; {} of them still count",
        human::count(COMMANDS as u64 - refused),
        human::count(refused),
        human::count(plain.done.len() as u64)
    );
    // The writer is dropped here, as when the program ends: each command was on disk when it took effect.
    Ok((inventory, plain, noon))
}

/// Checks a command, writes it, and does it: in this order, so that the log has only what can be done.
fn perform(
    writer: &TypedWriter<Command, Json>,
    inventory: &mut Inventory,
    command: &Command,
) -> Result<Option<Timestamp>> {
    if !inventory.allows(command) {
        return Ok(None);
    }
    let time = writer.write(command)?;
    inventory.apply(command)?;
    Ok(Some(time))
}

/// Opens the log as the next run of the program does.
fn open_again(log: &Log, evening: &Inventory, checks: &mut Checks) -> Result<Inventory> {
    let begin = Instant::now();
    let (inventory, commands) = play(log, Timestamp::MAX)?;
    let took = begin.elapsed();
    checks.equal("the articles, opened again", &inventory.articles, &evening.articles)?;
    checks.equal("what can be undone", &inventory.done, &evening.done)?;
    checks.equal("what can be redone", &inventory.undone, &evening.undone)?;
    let bytes: u64 = log.segments()?.iter().map(|segment| segment.bytes).sum();
    println!(
        "opened again: {} articles, {} pieces worth {} EUR, from {} commands ({}) in {}",
        human::count(inventory.articles.len() as u64),
        human::count(inventory.pieces()),
        human::count(inventory.cents() / 100),
        human::count(commands),
        human::bytes(bytes),
        human::duration(took)
    );
    Ok(inventory)
}

/// Takes back what an earlier run of the program did.
fn undo_over_the_restart(
    log: &Log,
    mut inventory: Inventory,
    mut plain: Plain,
    checks: &mut Checks,
) -> Result<()> {
    let writer = TypedWriter::new(Arc::new(log.writer()?), Json);
    for (command, times) in [(Command::Undo, 300), (Command::Redo, 120)] {
        for _ in 0..times {
            ensure!(perform(&writer, &mut inventory, &command)?.is_some(), "{command:?} was refused");
            plain.take(&command);
        }
        checks.equal("after undoing and redoing", &inventory.articles, &plain.articles()?)?;
        println!(
            "{command:?} {times} times: {} pieces worth {} EUR, {} commands can be undone, {} redone",
            human::count(inventory.pieces()),
            human::count(inventory.cents() / 100),
            human::count(inventory.done.len() as u64),
            inventory.undone.len()
        );
    }
    // Whoever does something new gives up what could be redone.
    let article = "hook 7".to_owned();
    let command = Command::Price { article, cents: 250 };
    perform(&writer, &mut inventory, &command)?;
    plain.take(&command);
    let redone = perform(&writer, &mut inventory, &Command::Redo)?;
    checks.equal("nothing to redo", &redone, &None)?;
    checks.equal("the price of a hook", &inventory.articles["hook 7"].cents, &250)?;
    drop(writer);
    checks.equal("played back again", &play(log, Timestamp::MAX)?.0.articles, &plain.articles()?)
}

/// The inventory of a time in the past.
fn as_it_was(log: &Log, noon: &(Timestamp, Articles), checks: &mut Checks) -> Result<()> {
    let (time, right) = noon;
    let (inventory, commands) = play(log, *time)?;
    checks.equal("the inventory at noon", &inventory.articles, right)?;
    let (pieces, by) = (human::count(inventory.pieces()), human::count(commands));
    println!("at noon it had {pieces} pieces, by {by} commands");
    // And what happened since is read without what was before.
    let mut since = TypedReader::<Command, _>::new(log.from(*time)?, Json);
    let mut later = 0;
    while since.next()?.is_some() {
        later += 1;
    }
    // The command of noon itself is in both.
    checks.equal("commands before and after", &(commands + later - 1), &play(log, Timestamp::MAX)?.1)
}

/// A command of a newer program: nothing is done for it, and nobody need stop.
fn pass_over_what_is_unknown(log: &Log, checks: &mut Checks) -> Result<()> {
    let commands = TypedWriter::new(Arc::new(log.writer()?), Json);
    let unknown = commands.writer().write(br#"{"Paint":{"article":"hook 7","colour":"red"}}"#)?;
    commands.write(&Command::Undo)?;
    let mut reader = TypedReader::<Command, _>::new(log.from(unknown)?, Json);
    match reader.next() {
        Err(error @ LogError::Decode { time, .. }) => {
            checks.equal("the time of what is unknown", &time, &unknown)?;
            println!("told: {}", error.to_string().replace(&log.path().display().to_string(), "commands"));
        }
        other => bail!("a command that nobody knows was read as {other:?}"),
    }
    let next = reader.next()?.map(|next| next.value);
    checks.equal("the command behind it", &next, &Some(Command::Undo))?;
    Ok(())
}

/// Plays the commands back up to a time; returns how many there were, too.
fn play(log: &Log, upto: Timestamp) -> Result<(Inventory, u64)> {
    let mut reader = TypedReader::<Command, _>::new(log.reader()?, Json);
    let (mut inventory, mut commands) = (Inventory::default(), 0);
    while let Some(next) = reader.next()? {
        if next.time > upto {
            break;
        }
        inventory.apply(&next.value)?;
        commands += 1;
    }
    Ok((inventory, commands))
}

type Articles = BTreeMap<String, Article>;

/// A price, and how many pieces each shop has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Article {
    cents: u32,
    pieces: [u32; SHOPS.len()],
}

/// The structure that the commands change.
#[derive(Debug, Default)]
struct Inventory {
    articles: Articles,
    /// What was done, and what its article was before: `None` if it was not there.
    done: Vec<(Command, Option<Article>)>,
    undone: Vec<Command>,
}

impl Inventory {
    fn allows(&self, command: &Command) -> bool {
        match command {
            Command::Undo => !self.done.is_empty(),
            Command::Redo => !self.undone.is_empty(),
            _ => change(&self.articles, command).is_some(),
        }
    }

    fn apply(&mut self, command: &Command) -> Result<()> {
        match command {
            Command::Undo => {
                let Some((command, before)) = self.done.pop() else { bail!("there is nothing to undo") };
                let article = command.article().unwrap_or_default();
                match before {
                    Some(before) => self.articles.insert(article.to_owned(), before),
                    None => self.articles.remove(article),
                };
                self.undone.push(command);
            }
            Command::Redo => {
                let Some(command) = self.undone.pop() else { bail!("there is nothing to redo") };
                self.change(command)?;
            }
            _ => {
                self.undone.clear();
                self.change(command.clone())?;
            }
        }
        Ok(())
    }

    fn change(&mut self, command: Command) -> Result<()> {
        let Some((article, after)) = change(&self.articles, &command) else {
            bail!("the log has a command that cannot be done: {command:?}")
        };
        let before = self.articles.insert(article, after);
        self.done.push((command, before));
        Ok(())
    }

    fn pieces(&self) -> u64 {
        self.articles.values().flat_map(|article| article.pieces).map(u64::from).sum()
    }

    fn cents(&self) -> u64 {
        let worth = |article: &Article| {
            u64::from(article.cents) * article.pieces.into_iter().map(u64::from).sum::<u64>()
        };
        self.articles.values().map(worth).sum()
    }
}

/// The article that a command changes, and what it is afterwards; `None` if the command cannot be done.
fn change(articles: &Articles, command: &Command) -> Option<(String, Article)> {
    let article = command.article()?;
    let mut after = articles.get(article).copied().unwrap_or_default();
    match *command {
        Command::Receive { shop, pieces, .. } => {
            after.pieces[shop] = after.pieces[shop].checked_add(pieces)?;
        }
        Command::Ship { shop, pieces, .. } => after.pieces[shop] = after.pieces[shop].checked_sub(pieces)?,
        Command::Move { from, to, pieces, .. } => {
            after.pieces[from] = after.pieces[from].checked_sub(pieces)?;
            after.pieces[to] = after.pieces[to].checked_add(pieces)?;
        }
        Command::Price { cents, .. } => after.cents = cents,
        Command::Undo | Command::Redo => return None,
    }
    Some((article.to_owned(), after))
}

/// What must be: the commands that are not undone, done one after another from nothing.
#[derive(Debug, Default)]
struct Plain {
    done: Vec<Command>,
    undone: Vec<Command>,
}

impl Plain {
    fn take(&mut self, command: &Command) {
        match command {
            Command::Undo => self.undone.extend(self.done.pop()),
            Command::Redo => self.done.extend(self.undone.pop()),
            _ => {
                self.undone.clear();
                self.done.push(command.clone());
            }
        }
    }

    fn articles(&self) -> Result<Articles> {
        let mut articles = Articles::new();
        for command in &self.done {
            let Some((article, after)) = change(&articles, command) else { bail!("{command:?}") };
            articles.insert(article, after);
        }
        Ok(articles)
    }
}

/// A made-up command; some cannot be done.
fn draw(rng: &mut Rng) -> Command {
    let article = format!("{} {}", KINDS[rng.usize(..KINDS.len())], rng.u32(1..=SIZES));
    let (shop, pieces) = (rng.usize(..SHOPS.len()), rng.u32(1..60));
    match rng.u32(..100) {
        0..45 => Command::Receive { article, shop, pieces: pieces * 3 },
        45..65 => Command::Ship { article, shop, pieces },
        65..75 => Command::Move { article, from: shop, to: (shop + 1) % SHOPS.len(), pieces },
        75..88 => Command::Price { article, cents: rng.u32(5..2_000) },
        88..95 => Command::Undo,
        _ => Command::Redo,
    }
}
