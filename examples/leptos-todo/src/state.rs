//! What happens to a to-do list, and what it adds up to. Knows nothing of Leptos, of files or of the network: everything here is
//! plain data, and functions of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How long the text of a to-do may be, in characters. A line is read at a glance; and without a limit one request could fill the
/// log.
pub const TEXT_CHARS_MAX: usize = 500;

/// How many to-dos there may be at a time. All of them are on the page, and each change copies the list once.
pub const TODOS_MAX: usize = 1_000;

/// A line of the log: `{"type":"todo_added","data":{"id":1,…},"ts":…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum TodoEvent {
    /// A to-do was written down.
    TodoAdded {
        /// Its number, which none has had before.
        id: u64,
        /// What is to be done.
        text: String,
        /// When, in seconds since the Unix epoch.
        created_at: u64,
    },
    /// One was ticked, or the tick taken away again.
    TodoToggled {
        /// Which.
        id: u64,
    },
    /// One was removed from the list.
    TodoDeleted {
        /// Which.
        id: u64,
    },
}

/// A to-do as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todo {
    /// Its number.
    pub id: u64,
    /// What is to be done.
    pub text: String,
    /// When it was added, in seconds since the Unix epoch.
    pub created_at: u64,
    /// Whether it is ticked.
    pub done: bool,
}

/// The state of the view `todos`.
///
/// Events that cannot be are passed over, whoever wrote them: a to-do that is added twice stays the first one, and nothing happens to
/// one that is not there. Two browsers may delete the same to-do at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todos {
    /// By number, which is the order in which they were asked for.
    pub todos: BTreeMap<u64, Todo>,
    /// The greatest number that was ever given; the to-do may be gone.
    pub last_id: u64,
    /// How many events changed something. Who knows this version has seen them all.
    pub version: u64,
}

/// The reducer of the view `todos`.
#[must_use]
pub fn fold_todos(mut state: Todos, event: TodoEvent) -> Todos {
    let has_changed = match event {
        TodoEvent::TodoAdded { id, text, created_at } => match state.todos.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Todo { id, text, created_at, done: false });
                // Two that are added at the same time may stand in the log the other way round.
                state.last_id = state.last_id.max(id);
                true
            }
        },
        TodoEvent::TodoToggled { id } => {
            state.todos.get_mut(&id).map(|todo| todo.done = !todo.done).is_some()
        }
        TodoEvent::TodoDeleted { id } => state.todos.remove(&id).is_some(),
    };
    state.version += u64::from(has_changed);
    state
}

/// What the page says of the whole history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// How many to-dos were ever added.
    pub created: u64,
    /// How many of them are ticked, or were when they were deleted. To take a tick away takes it back.
    pub completed: u64,
    /// How many were deleted, ticked or not.
    pub deleted: u64,
}

impl Stats {
    /// How many of a hundred were completed, rounded down: 100 means all. 0 where there are none.
    #[must_use]
    pub fn completion_percent(&self) -> u64 {
        self.completed.saturating_mul(100).checked_div(self.created).unwrap_or(0)
    }
}

/// The state of the view `stats`: the numbers, and what is needed to go on counting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// What was counted.
    #[serde(flatten)]
    pub stats: Stats,
    /// Whether it is ticked, for each to-do that is there.
    is_done: BTreeMap<u64, bool>,
}

/// The reducer of the view `stats`. It passes over the same events as [`fold_todos`].
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "this is how views call their reducers")]
pub fn fold_stats(mut state: Tally, event: TodoEvent) -> Tally {
    let Tally { stats, is_done } = &mut state;
    match event {
        TodoEvent::TodoAdded { id, .. } => {
            if let Entry::Vacant(place) = is_done.entry(id) {
                place.insert(false);
                stats.created += 1;
            }
        }
        TodoEvent::TodoToggled { id } => {
            if let Some(is_done) = is_done.get_mut(&id) {
                *is_done = !*is_done;
                // Not below 0: it was counted when it was ticked.
                stats.completed = if *is_done { stats.completed + 1 } else { stats.completed - 1 };
            }
        }
        TodoEvent::TodoDeleted { id } => stats.deleted += u64::from(is_done.remove(&id).is_some()),
    }
    state
}

/// Why a change was refused, or an answer did not come. Its text is what the page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TodoError {
    /// There was nothing to see in the text.
    NoText,
    /// The text is longer than [`TEXT_CHARS_MAX`].
    TextTooLong,
    /// There are [`TODOS_MAX`] to-dos.
    ListFull,
    /// It was deleted meanwhile, or never was.
    NotThere,
    /// The log could not be read or written: nothing was changed.
    Storage,
    /// It was changed, but the list does not show it.
    NotShown,
    /// The request was not understood, or did not arrive. Why is for programs: a page would show as the server's word what somebody
    /// wrote into its address.
    Request(String),
}

impl fmt::Display for TodoError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoText => write!(formatter, "Please write what there is to do."),
            Self::TextTooLong => write!(formatter, "That is too long: {TEXT_CHARS_MAX} characters at most."),
            Self::ListFull => {
                write!(formatter, "The list is full with {TODOS_MAX} to-dos: delete one that is done.")
            }
            Self::NotThere => write!(formatter, "This to-do is no longer there."),
            Self::Storage => {
                write!(formatter, "The change could not be saved. The server's output says why.")
            }
            Self::NotShown => write!(
                formatter,
                "The change is saved, but cannot be shown. Do not send it again; the server's output says why."
            ),
            Self::Request(_) => {
                write!(formatter, "The request failed: it was not understood, or no answer came.")
            }
        }
    }
}

impl std::error::Error for TodoError {}

/// The text as it is kept: without blanks around it, and with a single one for each run of blanks and line breaks inside.
///
/// # Errors
/// [`TodoError::NoText`] if no character of it can be seen, [`TodoError::TextTooLong`].
pub fn clean_text(text: &str) -> Result<String, TodoError> {
    // Long before it is copied.
    if text.len() > TEXT_CHARS_MAX * 8 {
        return Err(TodoError::TextTooLong);
    }
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if text.chars().all(is_invisible) {
        return Err(TodoError::NoText);
    }
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(TodoError::TextTooLong);
    }
    Ok(text)
}

/// Blanks, and what Unicode has to steer other characters: no width, joiners, directions.
fn is_invisible(c: char) -> bool {
    let steers =
        matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{feff}');
    c.is_whitespace() || steers || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

#[cfg(test)]
mod tests {
    use super::{
        Stats, TEXT_CHARS_MAX, Tally, TodoError, TodoEvent, Todos, clean_text, fold_stats, fold_todos,
    };

    fn added(id: u64) -> TodoEvent {
        TodoEvent::TodoAdded { id, text: format!("todo {id}"), created_at: 7 }
    }

    fn toggled(id: u64) -> TodoEvent {
        TodoEvent::TodoToggled { id }
    }

    fn deleted(id: u64) -> TodoEvent {
        TodoEvent::TodoDeleted { id }
    }

    fn states(events: &[TodoEvent]) -> (Todos, Stats) {
        let todos = events.iter().cloned().fold(Todos::default(), fold_todos);
        let tally = events.iter().cloned().fold(Tally::default(), fold_stats);
        (todos, tally.stats)
    }

    #[test]
    fn a_todo_is_added_ticked_and_deleted() {
        let (todos, stats) = states(&[added(1), added(2), toggled(1), deleted(2)]);
        let left: Vec<_> =
            todos.todos.values().map(|todo| (todo.id, todo.text.as_str(), todo.done)).collect();
        assert_eq!(left, [(1, "todo 1", true)]);
        assert_eq!((todos.last_id, todos.version), (2, 4));
        assert_eq!(stats, Stats { created: 2, completed: 1, deleted: 1 });
    }

    #[test]
    fn a_tick_that_is_taken_away_is_not_counted_and_one_that_comes_back_counts_once() {
        let completed = |events: &[TodoEvent]| states(events).1.completed;
        assert_eq!(completed(&[added(1), toggled(1), toggled(1)]), 0);
        assert_eq!(completed(&[added(1), toggled(1), toggled(1), toggled(1)]), 1);
        assert_eq!(completed(&[added(1), toggled(1), deleted(1)]), 1, "it was done");
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let events = [added(1), toggled(1)];
        let (todos, stats) = states(&events);
        for impossible in [added(1), toggled(9), deleted(9)] {
            let with: Vec<_> = events.iter().cloned().chain([impossible]).collect();
            assert_eq!(states(&with), (todos.clone(), stats), "{:?}", with.last());
        }
        let twice = states(&[added(1), deleted(1), deleted(1), toggled(1)]);
        assert_eq!((twice.0.version, twice.1), (2, Stats { created: 1, completed: 0, deleted: 1 }));
    }

    #[test]
    fn todos_that_came_in_the_other_order_are_both_there() {
        let (todos, stats) = states(&[added(2), added(1)]);
        assert_eq!((todos.todos.len(), todos.last_id, stats.created), (2, 2, 2));
    }

    #[test]
    fn percent_is_rounded_down_and_0_of_none() {
        let percent = |created, completed| Stats { created, completed, deleted: 0 }.completion_percent();
        assert_eq!([percent(0, 0), percent(3, 1), percent(3, 2), percent(3, 3)], [0, 33, 66, 100]);
    }

    #[test]
    fn text_is_cleaned_and_refused_if_nothing_is_to_be_seen_or_too_much() {
        assert_eq!(clean_text("  buy \t\r\n milk\0now  "), Ok("buy milk now".to_owned()));
        assert_eq!(clean_text("<img src=x onerror=alert(1)>"), Ok("<img src=x onerror=alert(1)>".to_owned()));
        for nothing in ["", " ", "\n\t\u{3000}", "\u{200b}\u{202e}", "\0"] {
            assert_eq!(clean_text(nothing), Err(TodoError::NoText), "{nothing:?}");
        }
        assert_eq!(clean_text(&"ä".repeat(TEXT_CHARS_MAX)), Ok("ä".repeat(TEXT_CHARS_MAX)));
        assert_eq!(clean_text(&"ä".repeat(TEXT_CHARS_MAX + 1)), Err(TodoError::TextTooLong));
        assert_eq!(clean_text(&" ".repeat(1 << 20)), Err(TodoError::TextTooLong));
    }

    #[test]
    fn events_are_written_as_the_log_has_them() -> Result<(), serde_json::Error> {
        for (event, line) in [
            (added(1), r#"{"type":"todo_added","data":{"id":1,"text":"todo 1","created_at":7}}"#),
            (toggled(1), r#"{"type":"todo_toggled","data":{"id":1}}"#),
            (deleted(1), r#"{"type":"todo_deleted","data":{"id":1}}"#),
        ] {
            assert_eq!(serde_json::to_string(&event)?, line);
            assert_eq!(serde_json::from_str::<TodoEvent>(line)?, event);
        }
        Ok(())
    }

    #[test]
    fn states_come_back_from_their_snapshots() -> Result<(), serde_json::Error> {
        let events = [added(1), added(2), toggled(2)];
        let todos = events.iter().cloned().fold(Todos::default(), fold_todos);
        let tally = events.iter().cloned().fold(Tally::default(), fold_stats);
        assert_eq!(serde_json::from_value::<Todos>(serde_json::to_value(&todos)?)?, todos);
        assert_eq!(serde_json::from_value::<Tally>(serde_json::to_value(&tally)?)?, tally);
        Ok(())
    }
}
