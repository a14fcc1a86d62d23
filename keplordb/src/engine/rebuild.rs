//! The manifest that the other files imply, for a directory whose own is lost or damaged.
//!
//! Every segment that no other one supersedes, and every log that no segment absorbed. What it cannot know: what was dropped
//! by gc and is still in its unlink grace comes back, until the next gc.

use std::collections::HashSet;
use std::sync::Arc;

use super::look::{FIRST_SEQUENCE, Segments};
use crate::error::{DbError, Result};
use crate::format::manifest::{ListedSegment, ListedWal, Manifest};
use crate::schema::TableSchema;
use crate::storage::directory::Listing;
use crate::storage::segment_reader::Segment;
use crate::storage::wal::{self, Known};

/// Reads the headers of all segments and logs; `known` of each log.
pub(super) fn rebuild(files: &Segments<'_>, listing: &Listing, known: Known) -> Result<Manifest> {
    let directory = files.directory;
    let mut segments = Vec::new();
    for (number, _) in &listing.segments {
        segments.push(files.open(*number)?);
    }
    let superseded: HashSet<u64> =
        segments.iter().flat_map(|segment| segment.header().supersedes.clone()).collect();
    let absorbed: HashSet<u64> =
        segments.iter().flat_map(|segment| segment.header().generations.clone()).collect();
    segments.retain(|segment| !superseded.contains(&segment.number()));
    let generations = listing.wals.iter().map(|(generation, _)| *generation);
    let wals: Vec<u64> = generations.clone().filter(|generation| !absorbed.contains(generation)).collect();

    let mut schemas: Vec<TableSchema> =
        segments.iter().map(|segment| segment.header().schema.clone()).collect();
    for generation in &wals {
        let path = directory.wal(*generation);
        schemas.push(wal::find(directory.disk().as_ref(), &path, *generation, known)?.header.schema);
    }
    // Schemas only grow, so the one with most columns is the last.
    let width = |schema: &TableSchema| {
        let shape = schema.shape();
        (shape.dims + shape.counters + shape.labels, schema.is_named())
    };
    let schema = schemas
        .into_iter()
        .max_by_key(width)
        .ok_or_else(|| DbError::Missing { file: directory.manifest() })?;
    let last_generation = generations.chain(absorbed.iter().copied()).max();
    let numbers = listing.segments.iter().map(|(number, _)| *number);
    let last_segment = numbers.chain(superseded.iter().copied()).max();
    let listed = |segment: &Arc<Segment>| ListedSegment {
        number: segment.number(),
        file_bytes: segment.header().file_bytes,
    };
    Ok(Manifest {
        schema,
        next_sequence: FIRST_SEQUENCE,
        next_generation: last_generation.map_or(1, |last| last + 1),
        next_segment: last_segment.map_or(1, |last| last + 1),
        closed: false,
        tombstone_log: 0,
        tombstone_bytes: 0,
        segments: segments.iter().map(listed).collect(),
        wals: wals.into_iter().map(|generation| ListedWal { generation, synced_bytes: 0 }).collect(),
        replaced: Vec::new(),
        dropped: Vec::new(),
    })
}
