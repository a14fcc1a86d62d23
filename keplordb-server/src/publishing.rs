//! What a server does by itself while it runs: it publishes what came, and maintains the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::capture::Capture;
use crate::error::ServerError;

/// How long it is until what could not be published is tried again, at most, unless it is published more rarely.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// How many events wait to be published at most, as far as publishing keeps up: half of what a question folds by itself.
const WAITING_EVENTS: u64 = 250_000;
/// What is longer than this is as good as never; a clock has an end.
const PAUSE_LONGEST: Duration = Duration::from_hours(24 * 365);
/// Between two publications nothing is published for at least this part of the time that the first one took.
const REST_PART: u32 = 4;
/// The least time from one publication to the next, and until what failed is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// How often it is looked whether as many wait.
const LOOK: Duration = Duration::from_millis(500);

/// Publishes until the server stops. What fails is said and tried again: the log has everything.
pub(crate) async fn publish(capture: Arc<Capture>, every: Duration) {
    let every = every.clamp(PAUSE_MIN, PAUSE_LONGEST);
    let mut pause = every;
    // What came just after a publication was begun is in the next one: that is not to wait for the end of the first one too.
    let mut at = Instant::now() + every;
    // Where the log was when what is published was begun; nothing after a failure.
    let mut from = begun(&capture).await;
    loop {
        tokio::select! {
            () = due(&capture, at, from, WAITING_EVENTS) => {}
            () = capture.streams_end() => return,
        }
        let (begun, begun_at) = (Instant::now(), capture.position());
        let publishing = Arc::clone(&capture);
        let publishing = move || {
            if let Err(error) = publishing.maintain() {
                tracing::error!(%error, "the log is not maintained; it is tried again");
            }
            publishing.publish()
        };
        let error = match tokio::task::spawn_blocking(publishing).await {
            // The loop ends too where the server stops.
            Ok(Ok(_) | Err(ServerError::Stopping)) => {
                // One that takes as long as the interval leaves the disk to others too.
                let rest = begun.elapsed() / REST_PART;
                (pause, from, at) = (every, Some(begun_at), (begun + every).max(Instant::now() + rest));
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        // What failed may have begun with much work.
        (pause, from) = ((pause * 2).min(PAUSE_MAX).max(every), None);
        at = Instant::now() + pause;
        tracing::error!(error, again_after = ?pause, "what came could not be published");
    }
}

/// Where the log would be if what waits to be published since before the start had come from there on, since from one start to the next
/// sequences leap; nothing where what is published cannot be read, which publishing says then.
async fn begun(capture: &Arc<Capture>) -> Option<u64> {
    let capture = Arc::clone(capture);
    let begun = tokio::task::spawn_blocking(move || {
        let position = capture.position();
        let waiting = capture.log().behind(capture.published().ok()?).ok()?.events;
        Some(position.saturating_sub(waiting))
    });
    begun.await.ok()?
}

/// Waits until it is time to publish, or so many events came in behind a position.
async fn due(capture: &Capture, at: Instant, from: Option<u64>, waiting: u64) {
    let is_much = || from.is_some_and(|from| capture.position().saturating_sub(from) >= waiting);
    while !is_much() && Instant::now() < at {
        tokio::time::sleep_until(at.min(Instant::now() + LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fold::Operation;
    use crate::record::Record;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_is_published_before_it_is_too_much_for_questions() {
        let dir = tempfile::tempdir().unwrap();
        let capture = Capture::open(dir.path()).unwrap();
        let capture_one = || {
            let record = Record::new("User", "u1", Operation::Update).json(&json!({"plan": "free"}));
            capture.capture(record)
        };
        capture_one().await.unwrap();
        let from = capture.position();
        let hour = Duration::from_hours(1);
        let waited =
            tokio::time::timeout(LOOK * 2, due(&capture, Instant::now() + hour, Some(from), 2)).await;
        assert!(waited.is_err());
        for _ in 0..2 {
            capture_one().await.unwrap();
        }
        tokio::time::timeout(hour, due(&capture, Instant::now() + hour, Some(from), 2)).await.unwrap();
        // After a failure it waits its time.
        assert!(tokio::time::timeout(LOOK * 2, due(&capture, Instant::now() + hour, None, 2)).await.is_err());
        due(&capture, Instant::now(), None, 2).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_since_before_the_start_counts() {
        let dir = tempfile::tempdir().unwrap();
        let record = || Record::new("User", "u1", Operation::Update).json(&json!({"plan": "free"}));
        for unpublished in [1, 2] {
            // It is as if the server before had ended without a publication.
            let capture = Arc::new(Capture::open(dir.path()).unwrap());
            let from = begun(&capture).await;
            assert_eq!(capture.position() - from.unwrap(), unpublished - 1);
            capture.capture(record()).await.unwrap();
            let due = due(&capture, Instant::now() + Duration::from_hours(1), from, 2);
            assert_eq!(tokio::time::timeout(LOOK * 4, due).await.is_ok(), unpublished == 2);
            Arc::into_inner(capture).unwrap().close().unwrap();
        }
        let capture = Arc::new(Capture::open(dir.path()).unwrap());
        capture.publish().unwrap().unwrap();
        assert_eq!(begun(&capture).await, Some(capture.position()));
    }
}
