//! A batch that is put together column by column, before it is appended.

use super::AnyStore;
use super::event::AnyEvent;
use crate::engine::{Appended, check_batch, check_row};
use crate::error::Result;
use crate::format::block::Block;

/// Events that are going to be appended together, all or nothing, kept as the engine keeps them in memory: where very many come in, an
/// event costs no memory of its own, and one thread can put a batch together while another appends the one before.
///
/// ```
/// use keplordb::TableSchema;
/// use keplordb::any::{AnyStore, Value};
///
/// # let dir = tempfile::tempdir()?;
/// let store = AnyStore::open_or_create(dir.path().join("calls"), TableSchema::new(1).dim("user").counter("tokens"))?;
/// let (user, tokens) = (store.position("user")?, store.position("tokens")?);
///
/// let mut batch = store.batch();
/// let mut event = store.event(0);
/// for (ts_ns, name, count) in [(10, "alice", 1200), (20, "bob", 300)] {
///     event.reset(ts_ns);
///     event.put_at(user, Value::from(name))?;
///     event.put_at(tokens, Value::from(count))?;
///     batch.push(&event)?;
/// }
/// batch.append()?;
/// assert_eq!(store.query().totals()?.of("tokens")?.sum, 1500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a batch is stored when it is appended"]
pub struct AnyBatch<'a> {
    store: &'a AnyStore,
    block: Block,
    bytes: usize,
}

impl<'a> AnyBatch<'a> {
    pub(super) fn new(store: &'a AnyStore) -> Self {
        Self { store, block: Block::new(store.columns.shape()), bytes: 0 }
    }

    /// Adds an event; one whose id was not set gets one.
    ///
    /// # Errors
    /// [`Invalid`](crate::DbError::Invalid) for an event of another table's columns, one that is larger than
    /// [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES), or one with which the batch would be larger than
    /// [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES). The batch is as it was then.
    pub fn push(&mut self, event: &AnyEvent) -> Result<()> {
        event.check_is_of(&self.store.columns)?;
        let mut row = event.row();
        let made_id;
        if !event.has_id() {
            made_id = self.store.ids.id(row.ts_ns);
            row.id = &made_id;
        }
        let bytes = self.bytes + check_row(self.block.rows(), &row, self.block.shape())?;
        check_batch(bytes)?;
        self.block.push(row);
        self.bytes = bytes;
        Ok(())
    }

    /// How many events it has.
    pub fn len(&self) -> usize {
        self.block.rows()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About what it takes in the log, in bytes, as [`AnyEvent::bytes`] counts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the events, all or nothing; visible to every query and on disk as the sync policy says on return.
    ///
    /// # Errors
    /// As [`AnyStore::append_batch`].
    pub fn append(self) -> Result<Appended> {
        self.store.core.append_block(self.block, false)
    }

    /// Appends the events, all or nothing; on return they are on disk, whatever the sync policy.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_durable(self) -> Result<Appended> {
        self.store.core.append_block(self.block, true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;
    use crate::any::{AnyRow, Value};
    use crate::schema::TableSchema;
    use crate::{MAX_BATCH_BYTES, MAX_EVENT_BYTES};

    fn schema() -> TableSchema {
        TableSchema::new(1).dim("user").dim("model").counter("tokens").label("note")
    }

    fn made_id(row: &AnyRow) -> Option<String> {
        let id = row.text("id").unwrap();
        (id.len() == 26).then(|| id.to_owned())
    }

    /// Everything but an id that was made.
    fn values(row: &AnyRow) -> Vec<Value<'static>> {
        let is_made = made_id(row).is_some();
        let shown = row.iter().filter(|(column, _)| column.name != "id" || !is_made);
        shown.map(|(_, value)| value.clone().into_owned()).collect()
    }

    /// What is set in an event: its time, numbers and texts by the column's name.
    type Set = (i64, Vec<(&'static str, u16)>, Vec<(&'static str, String)>);

    fn set() -> impl Strategy<Value = Set> {
        let numbers = vec!["metric", "latency_ms", "latency_detail_ms", "status", "flags", "tokens"];
        let numbers = subsequence(numbers, 0..=6).prop_flat_map(|names| {
            let values = vec(any::<u16>(), names.len());
            values.prop_map(move |values| names.iter().copied().zip(values).collect())
        });
        let texts = subsequence(vec!["id", "user", "model", "note"], 0..=4).prop_flat_map(|names| {
            let values = vec("[a-zé]{1,9}", names.len());
            values.prop_map(move |values| names.iter().copied().zip(values).collect())
        });
        (-1000..1000_i64, numbers, texts)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        // Some batches are copied into what is in memory, others become a block of it.
        #[test]
        fn a_batch_is_what_its_events_are_one_by_one(batches in vec(vec(set(), 0..600), 1..4), durable: bool) {
            let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
            let stores = dirs.each_ref().map(|dir| AnyStore::open_or_create(dir.path(), schema()).unwrap());
            let position = |column: &str| stores[0].position(column).unwrap();
            let mut made = stores[0].event(7);
            for sets in batches {
                let (mut batch, mut events) = (stores[0].batch(), Vec::new());
                for (ts_ns, numbers, texts) in sets {
                    let numbers = numbers.into_iter().map(|(column, number)| (column, Value::from(number)));
                    let texts = texts.into_iter().map(|(column, text)| (column, Value::from(text)));
                    let mut event = stores[1].event(ts_ns);
                    made.reset(ts_ns);
                    for (column, value) in numbers.chain(texts) {
                        made.put_at(position(column), value.clone()).unwrap();
                        event = event.set(column, value).unwrap();
                    }
                    prop_assert_eq!(made.bytes(), event.bytes());
                    batch.push(&made).unwrap();
                    events.push(event);
                }
                prop_assert_eq!((batch.len(), batch.is_empty()), (events.len(), events.is_empty()));
                let appended = if durable { batch.append_durable() } else { batch.append() };
                prop_assert_eq!(appended.unwrap(), stores[1].append_batch(events).unwrap());
            }
            let rows = |store: &AnyStore| store.query().oldest_first().rows().unwrap();
            let wanted: Vec<_> = rows(&stores[1]).iter().map(values).collect();
            let made_ids: Vec<_> = rows(&stores[0]).iter().filter_map(made_id).collect();
            prop_assert_eq!(made_ids.iter().collect::<HashSet<_>>().len(), made_ids.len());
            prop_assert_eq!(rows(&stores[0]).iter().map(values).collect::<Vec<_>>(), &wanted[..]);
            let [store, _] = stores;
            store.close().unwrap();
            let store = AnyStore::open(dirs[0].path()).unwrap();
            prop_assert_eq!(rows(&store).iter().map(values).collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn an_event_that_is_refused_leaves_the_batch_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = AnyStore::open_or_create(dir.path().join("calls"), schema()).unwrap();
        let other = AnyStore::open_or_create(dir.path().join("others"), TableSchema::new(1)).unwrap();
        let mut batch = store.batch();
        batch.push(&store.event(1)).unwrap();
        let bytes = batch.bytes();
        let refused = batch.push(&other.event(1)).unwrap_err().to_string();
        assert!(
            refused.starts_with("event is not legal: it was made for a table of other columns"),
            "{refused}"
        );

        let mut event = store.event(2);
        let note = store.position("note").unwrap();
        let largest = crate::format::MAX_LABEL_BYTES;
        assert!(event.put_at(note, Value::from("x".repeat(largest + 1))).is_err());
        assert_eq!(event.bytes(), store.event(2).bytes());
        event.put_at(note, Value::from("x".repeat(largest))).unwrap();
        assert!(event.bytes() <= MAX_EVENT_BYTES);
        assert_eq!((batch.len(), batch.bytes()), (1, bytes));

        let refused = loop {
            let (len, bytes) = (batch.len(), batch.bytes());
            if let Err(refused) = batch.push(&event) {
                assert_eq!((batch.len(), batch.bytes()), (len, bytes));
                break refused.to_string();
            }
        };
        assert!(refused.contains(&format!("at most {MAX_BATCH_BYTES} are possible")), "{refused}");
        assert!(batch.bytes() <= MAX_BATCH_BYTES);
    }
}
