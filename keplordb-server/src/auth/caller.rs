//! Who sends a request, and which entities he may touch. Every answerer of requests is given one.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::error::{Refused, Result};
use crate::keys::{Key, Ring};
use crate::log::Selection;
use crate::name::shown;
use crate::record::Record;

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Somebody of whom no key is asked.
    Anybody {
        /// Where one may be asked for meanwhile.
        ring: Arc<Ring>,
    },
    /// Who has a key.
    Holder {
        /// The key.
        key: Arc<Key>,
        /// Where it may be taken back meanwhile.
        ring: Arc<Ring>,
    },
}

impl Caller {
    /// The name of the key, and without one, what he says.
    pub(crate) fn client(&self, said: &str) -> String {
        self.key_name().unwrap_or(said).to_owned()
    }

    /// The name of the key.
    pub(crate) fn key_name(&self) -> Option<&str> {
        match self {
            Self::Anybody { .. } => None,
            Self::Holder { key, .. } => Some(&key.name),
        }
    }

    /// What is wrong with a text that is said to be a key; nothing where it is a good one.
    pub(crate) fn wrong_with(&self, text: &str) -> Option<String> {
        let (Self::Anybody { ring } | Self::Holder { ring, .. }) = self;
        super::good(ring, text).err()
    }

    /// Whether entities of a type are his to see and to send events of.
    pub(crate) fn may_touch(&self, entity_type: &str) -> bool {
        match self {
            Self::Anybody { .. } => true,
            Self::Holder { key, .. } => key.is_for(entity_type),
        }
    }

    /// That they are.
    pub(crate) fn check_type(&self, entity_type: &str) -> Result<()> {
        match self {
            Self::Holder { key, .. } if !key.is_for(entity_type) => {
                let (types, asked) = (key.types.join(", "), shown(entity_type));
                Err(Refused::Denied {
                    what: format!("the key is for entities of {types}, and not of {asked}"),
                })
            }
            _ => Ok(()),
        }
    }

    /// That those of all these records are.
    pub(crate) fn check_records(&self, records: &[Record]) -> Result<()> {
        let mut records = records.iter().enumerate();
        records.try_for_each(|(index, record)| {
            self.check_type(&record.entity_type).map_err(|refused| refused.in_batch(index))
        })
    }

    /// That all that a selection means is. A key for some types must name them: a selection without a type means all.
    pub(crate) fn check_selection(&self, selection: &Selection) -> Result<()> {
        if let Self::Holder { key, .. } = self
            && !key.types.is_empty()
            && selection.entity_types.is_empty()
        {
            let types = key.types.join(", ");
            return Err(Refused::Denied {
                what: format!("the key is for entities of {types}; ask for one of these types"),
            });
        }
        selection.entity_types.iter().try_for_each(|entity_type| self.check_type(entity_type))
    }

    /// That all types may be seen: a question in SQL or RQL may look at any.
    #[cfg(feature = "sql")]
    pub(crate) fn check_all_types(&self) -> Result<()> {
        match self {
            Self::Holder { key, .. } if !key.types.is_empty() => Err(Refused::Denied {
                what: format!(
                    "the key is for entities of {}, and a question may look at all types; ask at /e/{{type}} without `q`, or with a \
                     key for all types",
                    key.types.join(", ")
                ),
            }),
            _ => Ok(()),
        }
    }

    /// That it is the caller's turn: a key may be for so many requests a second.
    pub(crate) fn check_turn(&self) -> Result<()> {
        let Self::Holder { key, ring } = self else { return Ok(()) };
        ring.turn(key).map_err(|wait| Refused::TooOften {
            name: key.name.clone(),
            rate: key.rate.map_or(0, NonZeroU32::get),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1),
        })
    }

    /// That the key is still good, and that none is needed still, for answers that go on and on.
    pub(crate) fn check_still(&self) -> Result<()> {
        match self {
            Self::Holder { key, ring } if !ring.is_still_good(key) => Err(Refused::Denied {
                what: "the key expired or was revoked meanwhile; ask for a new one".to_owned(),
            }),
            Self::Anybody { ring } if ring.is_asking() => {
                Err(Refused::Denied { what: "the server asks for a key by now; send one".to_owned() })
            }
            _ => Ok(()),
        }
    }
}
