//! Time: the median of many samples of a call, and of several runs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::interrupt;

/// Before the first sample caches fill, and it is seen how long a call takes.
const WARM_UP: Duration = Duration::from_millis(100);
/// A sample lasts at least about so long, or one call.
const SAMPLE: Duration = Duration::from_millis(5);
const SAMPLES: usize = 51;
/// A call that is slow has fewer samples, but never fewer than this.
const SAMPLES_MIN: usize = 5;
/// All samples of a call together last about so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Microseconds of a call: the median of the samples' means.
pub(super) fn median_us<T>(mut call: impl FnMut() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    let mut calls = 0_u32;
    while calls == 0 || begin.elapsed() < WARM_UP {
        interrupt::check()?;
        black_box(call()?);
        calls += 1;
    }
    let one = begin.elapsed().as_secs_f64() / f64::from(calls);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of calls in 5 ms")]
    let calls = (SAMPLE.as_secs_f64() / one).clamp(1.0, 1e9) as u32;
    let (begin, mut samples) = (Instant::now(), Vec::with_capacity(SAMPLES));
    while samples.len() < SAMPLES_MIN || (samples.len() < SAMPLES && begin.elapsed() < PATIENCE) {
        interrupt::check()?;
        let begin = Instant::now();
        for _ in 0..calls {
            black_box(call()?);
        }
        samples.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
    }
    Ok(median(&mut samples))
}

/// The middle one of some figures; of an even number the upper one.
pub(super) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |samples: &mut [f64]| median(samples).to_string();
        assert_eq!([of(&mut [3.0, 1.0, 200.0]), of(&mut [4.0, 1.0]), of(&mut [])], ["3", "4", "0"]);
    }

    #[test]
    fn a_call_takes_as_long_as_it_sleeps() {
        let mut calls = 0;
        let measured = median_us(|| {
            calls += 1;
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        });
        let measured = measured.unwrap();
        assert!(measured >= 20_000.0, "{measured}");
        assert!(calls >= SAMPLES_MIN, "{calls}");
    }

    #[test]
    fn a_call_that_fails_ends_it() {
        assert!(median_us::<()>(|| anyhow::bail!("no")).is_err());
    }
}
