//! A server's root in the place of tables.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::tables::Place;

/// The root that is asked; `None` where tables are.
pub(super) fn only(places: impl Iterator<Item = Place>) -> Result<Option<PathBuf>> {
    let (mut roots, tables): (Vec<Place>, Vec<Place>) =
        places.partition(|place| keplordb_server::is_root(&place.dir));
    match (roots.pop(), roots.len() + tables.len()) {
        (None, _) => Ok(None),
        (Some(root), 0) => Ok(Some(root.dir)),
        (Some(root), _) => {
            bail!("{} is a server's root and is asked alone; give nothing beside it", root.dir.display())
        }
    }
}
