//! How often a key may ask: so many times a second in the long run, and as many at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::Key;

/// How far keys are with what they may ask, by their ids; beside it how often that is.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<String, (NonZeroU32, DefaultDirectRateLimiter)>);

impl Rates {
    /// Those of these keys: of one that was there already, as it was.
    pub(super) fn follow(&mut self, keys: &[Arc<Key>]) {
        let mut before = std::mem::take(&mut self.0);
        for key in keys {
            if let Some(rate) = key.rate {
                let same = before.remove(&key.id).filter(|(before, _)| *before == rate);
                let new = || (rate, RateLimiter::direct(Quota::per_second(rate)));
                self.0.insert(key.id.clone(), same.unwrap_or_else(new));
            }
        }
    }

    /// Counts a request of a key; or says how long it is until the next one.
    pub(super) fn turn(&self, key: &Key) -> Result<(), Duration> {
        let Some((_, rate)) = self.0.get(&key.id) else { return Ok(()) };
        rate.check().map_err(|early| early.wait_time_from(rate.clock().now()))
    }
}
