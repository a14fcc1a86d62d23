//! Notes with tags, written by several people: a list, one filtered by a tag, how often each tag is used, and by whom.
//!
//! Who wrote a note stands beside its data, in the event's actor. The events are an enum here, so the reducers match on variants rather
//! than search in JSON; that is also several times faster.
//!
//! Lines that begin with `//>` are what the program prints.
//!
//! ```text
//! cargo run -p keplordb-fold --example notes_cli
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use keplordb_fold::{Event, EventWriter, Meta, TypedView};
use serde::{Deserialize, Serialize};

/// What can happen to notes, tagged as the lines of the log are: `{"type":"noted","data":{"id":1,…},…}`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum Change {
    Noted { id: u64, text: String, tags: BTreeSet<String> },
    Tagged { id: u64, tag: String },
    Removed { id: u64 },
}

/// A note as it is shown.
#[derive(Clone, Serialize, Deserialize)]
struct Note {
    text: String,
    tags: BTreeSet<String>,
    author: String,
}

type Notes = BTreeMap<u64, Note>;

/// What is there.
fn notes(mut notes: Notes, change: Change, meta: &Meta) -> Notes {
    match change {
        Change::Noted { id, text, tags } => {
            let author = meta.actor.clone().unwrap_or_else(|| "somebody".to_owned());
            notes.insert(id, Note { text, tags, author });
        }
        Change::Tagged { id, tag } => {
            if let Some(note) = notes.get_mut(&id) {
                note.tags.insert(tag);
            }
        }
        Change::Removed { id } => {
            notes.remove(&id);
        }
    }
    notes
}

/// How often each tag was given, to notes that were removed since too, and how many changes each person made.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Statistics {
    tags: BTreeMap<String, u64>,
    changes: BTreeMap<String, u64>,
}

fn statistics(mut statistics: Statistics, change: Change, meta: &Meta) -> Statistics {
    if let Some(actor) = &meta.actor {
        *statistics.changes.entry(actor.clone()).or_default() += 1;
    }
    match change {
        Change::Noted { tags, .. } => {
            for tag in tags {
                *statistics.tags.entry(tag).or_default() += 1;
            }
        }
        Change::Tagged { tag, .. } => *statistics.tags.entry(tag).or_default() += 1,
        Change::Removed { .. } => {}
    }
    statistics
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut writer = EventWriter::open(dir.path())?;
    note(&mut writer, "ada", 1, "ship the release", &["work", "urgent"])?;
    note(&mut writer, "ada", 2, "try the new bakery", &["home"])?;
    note(&mut writer, "bob", 3, "read the review", &["work"])?;
    note(&mut writer, "bob", 4, "milk, bread, soap", &["home", "shopping"])?;
    append(&mut writer, "ada", &Change::Tagged { id: 3, tag: "urgent".to_owned() })?;
    append(&mut writer, "bob", &Change::Removed { id: 4 })?;

    let mut list = TypedView::with_meta("notes", notes, writer.views_dir());
    let list: &Notes = list.refresh(&writer.reader())?;
    show(list.iter());
    //> 1 ship the release #urgent #work (ada)
    //> 2 try the new bakery #home (ada)
    //> 3 read the review #urgent #work (bob)

    println!("urgent:");
    show(list.iter().filter(|(_, note)| note.tags.contains("urgent")));
    //> urgent:
    //> 1 ship the release #urgent #work (ada)
    //> 3 read the review #urgent #work (bob)

    let mut used = TypedView::with_meta("statistics", statistics, writer.views_dir());
    let used: &Statistics = used.refresh(&writer.reader())?;
    for (tag, count) in &used.tags {
        println!("#{tag}: {count}");
    }
    //> #home: 2
    //> #shopping: 1
    //> #urgent: 2
    //> #work: 2
    for (actor, count) in &used.changes {
        println!("{actor} made {count} changes");
    }
    //> ada made 3 changes
    //> bob made 3 changes
    Ok(())
}

fn note(
    writer: &mut EventWriter,
    author: &str,
    id: u64,
    text: &str,
    tags: &[&str],
) -> Result<(), Box<dyn Error>> {
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    append(writer, author, &Change::Noted { id, text: text.to_owned(), tags })
}

/// The enum knows the names of types and fields, for writing too.
fn append(writer: &mut EventWriter, actor: &str, change: &Change) -> Result<(), Box<dyn Error>> {
    let line = serde_json::to_value(change)?;
    let kind = line["type"].as_str().ok_or("a change has a type")?;
    writer.append(&Event::new(kind, line["data"].clone()).with_actor(actor))?;
    Ok(())
}

fn show<'a>(notes: impl Iterator<Item = (&'a u64, &'a Note)>) {
    for (id, Note { text, tags, author }) in notes {
        let tags: Vec<String> = tags.iter().map(|tag| format!("#{tag}")).collect();
        println!("{id} {text} {} ({author})", tags.join(" "));
    }
}
