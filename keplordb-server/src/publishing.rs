//! What a server does by itself while it runs: it publishes what came, and maintains the log.

use std::sync::Arc;
use std::time::Duration;

use crate::capture::Capture;
use crate::error::ServerError;

/// How long it is until what could not be published is tried again, at most, unless it is published more rarely.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// Publishes until the server stops. What fails is said and tried again: the log has everything.
pub(crate) async fn publish(capture: Arc<Capture>, every: Duration) {
    let mut pause = every;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = capture.streams_end() => return,
        }
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
                pause = every;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        // What failed may have begun with much work.
        pause = (pause * 2).min(PAUSE_MAX).max(every);
        tracing::error!(error, again_after = ?pause, "what came could not be published");
    }
}
