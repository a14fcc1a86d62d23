//! Which typed files there are: of each file of `_current` and `_versions`, and of each type of which it has rows, one.

use std::collections::BTreeMap;

use super::super::columns::damaged;
use super::super::draft::{Draft, OTHER_ROWS};
use super::super::manifest::{FileEntry, Sum, TypedTable};
use super::super::parquet::Rows;
use super::super::rows::{CurrentRow, VersionRow};
use super::{TypedColumns, TypedRow, Typings};
use crate::error::ServerError;

type Result<T> = std::result::Result<T, ServerError>;

/// Typed tables by their types.
type Typed = BTreeMap<String, TypedTable>;

impl Draft {
    /// Makes the typed tables those that are to be, with the rows that the others have now. Files of which nothing has changed stay.
    pub(in super::super) fn make_typed(&mut self, typings: &Typings) -> Result<()> {
        let mut before = std::mem::take(&mut self.tables.typed);
        let mut typed: Typed = typings
            .iter()
            .map(|(entity_type, typing)| {
                // None of those with other columns stays.
                let before = before.remove(entity_type).filter(|before| before.columns == typing.columns);
                let (current, versions) =
                    before.map(|table| (table.current, table.versions)).unwrap_or_default();
                let table = TypedTable {
                    name: typing.name.clone(),
                    columns: typing.columns.clone(),
                    current,
                    versions,
                    // Known when it is committed.
                    linked: 0,
                };
                (entity_type.clone(), table)
            })
            .collect();
        self.make_part::<CurrentRow>(&mut typed)?;
        self.make_part::<VersionRow>(&mut typed)?;
        self.tables.typed = typed;
        Ok(())
    }

    /// Brings the files that are made of those of one table to what that has.
    fn make_part<R: TypedRow>(&mut self, typed: &mut Typed) -> Result<()> {
        // What is there, by the file of which it is.
        let mut there: BTreeMap<(String, String), FileEntry> = BTreeMap::new();
        let mut empty: BTreeMap<String, FileEntry> = BTreeMap::new();
        for (entity_type, table) in &mut *typed {
            for file in table.get_mut(R::TABLE).drain(..) {
                match &file.of {
                    Some(of) => there.insert((entity_type.clone(), of.clone()), file),
                    None => empty.insert(entity_type.clone(), file),
                };
            }
        }
        for (place, file) in self.tables.get(R::TABLE).files.clone().into_iter().enumerate() {
            self.go_on()?;
            let mut files: Vec<(String, FileEntry)> = Vec::new();
            let found = {
                let mut lacking: BTreeMap<&str, TypedColumns<'_, R>> = BTreeMap::new();
                for (entity_type, table) in typed.iter().filter(|(other, _)| may_have(&file, other)) {
                    match there.remove(&(entity_type.clone(), file.path.clone())) {
                        Some(there) => files.push((entity_type.clone(), there)),
                        None => {
                            lacking.insert(entity_type.as_str(), TypedColumns::new(&table.columns));
                        }
                    }
                }
                if lacking.is_empty() { None } else { Some(self.make_files(&file, &lacking, &mut files)?) }
            };
            for (entity_type, file) in files {
                if let Some(table) = typed.get_mut(&entity_type) {
                    table.get_mut(R::TABLE).push(file);
                }
            }
            // So that it is not read again for types of which it has no rows.
            if found.is_some()
                && file.bucket.is_none()
                && let Some(file) = self.tables.get_mut(R::TABLE).files.get_mut(place)
            {
                file.types = found;
            }
        }
        for (entity_type, table) in typed {
            if table.get(R::TABLE).is_empty() {
                let mut file = empty.remove(entity_type);
                if file.is_none() {
                    let columns = TypedColumns::<R>::new(&table.columns);
                    file = self.write_as(&columns, None, 0, true, std::iter::empty::<Result<R>>())?;
                }
                table.get_mut(R::TABLE).extend(file);
            }
        }
        Ok(())
    }

    /// Writes the rows of a file once more, of each type that lacks them into a file of its own; gives the types of the rows.
    fn make_files<R: TypedRow>(
        &mut self,
        file: &FileEntry,
        lacking: &BTreeMap<&str, TypedColumns<'_, R>>,
        made: &mut Vec<(String, FileEntry)>,
    ) -> Result<Vec<String>> {
        let path = self.dir(R::TABLE).join(&file.path);
        let rows_max = usize::try_from(file.rows).unwrap_or(usize::MAX);
        let mut types = Vec::new();
        let mut read = (0, Sum::default());
        let note = |row: &Result<R>| {
            if let Ok(row) = row {
                read.0 += 1;
                read.1.add(row.hash());
            }
        };
        let mut rows = Rows::<R>::open(&path)?.inspect(note).peekable();
        while let Some(first) = rows.next().transpose()? {
            // They are in the order of their types. What cannot be read is for the next turn.
            let entity_type = first.entity_type().to_owned();
            let is_next = |row: &Result<R>| row.as_ref().is_ok_and(|row| row.entity_type() == entity_type);
            let of_type = std::iter::once(Ok(first)).chain(std::iter::from_fn(|| rows.next_if(is_next)));
            if let Some(columns) = lacking.get(entity_type.as_str()) {
                let entry = self.write_as(columns, file.bucket.as_ref(), 0, false, of_type.take(rows_max))?;
                let of_file = |entry: FileEntry| FileEntry { of: Some(file.path.clone()), ..entry };
                made.extend(entry.map(|entry| (entity_type.clone(), of_file(entry))));
            } else {
                of_type.for_each(drop);
            }
            types.push(entity_type);
        }
        drop(rows);
        if read != (file.rows, file.row_hash) {
            return Err(damaged(&path, OTHER_ROWS));
        }
        Ok(types)
    }
}

/// Whether a file can have rows of a type.
pub(super) fn may_have(file: &FileEntry, entity_type: &str) -> bool {
    file.rows > 0
        && match (&file.bucket, &file.types) {
            (Some(bucket), _) => bucket.entity_type == entity_type,
            (None, Some(types)) => types.iter().any(|other| other == entity_type),
            (None, None) => true,
        }
}
