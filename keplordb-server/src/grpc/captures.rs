//! `reflog.v2.CaptureService`: batches, streams of batches, and subscriptions.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{Services, caller_of, client_of, event_of, record_of, response_of, v2};
use crate::error::Refused;
use crate::log::Selection;
use crate::subscribe::{News, Since};

/// How often a subscriber is told how far it is when there is no other news.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Batches of a stream that wait to be on disk, or for who asked to take the answer.
const BATCHES_AHEAD: usize = 64;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl v2::capture_service_server::CaptureService for Services {
    async fn ingest_batch(
        &self,
        request: Request<v2::IngestBatchRequest>,
    ) -> Result<Response<v2::IngestBatchResponse>, Status> {
        let caller = caller_of(&request)?;
        let client = client_of(&request, &caller)?;
        let records = request.into_inner().records;
        let records: Vec<_> = records.into_iter().map(|record| record_of(record, client.clone())).collect();
        self.0.counted(caller.check_records(&records))?;
        let receipts = self.0.capture_batch(records).await?;
        Ok(Response::new(v2::IngestBatchResponse {
            receipts: receipts.into_iter().map(response_of).collect(),
        }))
    }

    type IngestStreamStream = Answers<v2::IngestStreamResponse>;

    async fn ingest_stream(
        &self,
        request: Request<Streaming<v2::IngestBatchRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        let caller = caller_of(&request)?;
        let client = client_of(&request, &caller)?;
        let mut batches = request.into_inner();
        let capture = Arc::clone(&self.0);
        // Batches wait side by side for the disk, in their order: so those of one stream share syncs too.
        let (pending, in_turn) = mpsc::channel(BATCHES_AHEAD);
        tokio::spawn(async move {
            loop {
                // What a client may still send is not waited for when the server stops.
                let next = tokio::select! {
                    next = batches.next() => next,
                    () = capture.streams_end() => Some(Err(Status::from(Refused::Stopping))),
                };
                let Some(request) = next else { return };
                let under_way = match request {
                    Err(status) => return drop(pending.send(Err(status)).await),
                    Ok(request) => {
                        if let Err(refused) = capture.counted(caller.check_still()) {
                            return drop(pending.send(Err(Status::from(refused))).await);
                        }
                        let records = request.records.into_iter();
                        let records: Vec<_> =
                            records.map(|record| record_of(record, client.clone())).collect();
                        // Who waited with a batch in hand would keep the room that it was read in from others.
                        let admitted = caller.check_turn().and_then(|()| caller.check_records(&records));
                        match capture.counted(admitted) {
                            Ok(()) => capture.submit_batch(records).await,
                            Err(refused) => Err(refused),
                        }
                    }
                };
                if pending.send(Ok(under_way)).await.is_err() {
                    return;
                }
            }
        });
        let mut in_turn = ReceiverStream::new(in_turn);
        let (answers, given) = mpsc::channel(1);
        tokio::spawn(async move {
            for batch in 0.. {
                let captured = match in_turn.next().await {
                    None => return,
                    Some(Err(status)) => return drop(answers.send(Err(status)).await),
                    Some(Ok(Err(refused))) => Err(refused),
                    Some(Ok(Ok(under_way))) => under_way.receipts().await,
                };
                let answer = match captured {
                    Ok(receipts) => v2::IngestStreamResponse {
                        batch,
                        receipts: receipts.into_iter().map(response_of).collect(),
                        ..v2::IngestStreamResponse::default()
                    },
                    Err(refused) => {
                        let status = Status::from(refused);
                        let (code, message) = (status.code().into(), status.message().to_owned());
                        v2::IngestStreamResponse {
                            batch,
                            code,
                            message,
                            ..v2::IngestStreamResponse::default()
                        }
                    }
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(given))))
    }

    type SubscribeStream = Answers<v2::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v2::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        use v2::subscribe_request::Start;
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let since = match request.start {
            None | Some(Start::Now(false)) => Since::Beginning,
            Some(Start::AfterSequence(sequence)) => Since::After(sequence),
            Some(Start::ReceivedSince(time_ms)) => Since::Received(time_ms),
            Some(Start::Now(true)) => Since::Now,
        };
        let selection = Selection { entity_types: request.entity_types, entity_ids: request.entity_ids };
        self.0.counted(caller.check_selection(&selection))?;
        let capture = Arc::clone(&self.0);
        // A time is looked for in the whole log.
        let begun = tokio::task::spawn_blocking(move || capture.subscribe(&selection, since, HEARTBEAT));
        let news = begun.await.map_err(|error| Status::internal(error.to_string()))??;
        let given = ReceiverStream::new(news).map(move |news| {
            // There is news every few seconds, so a key that is revoked ends the stream soon: an error is the last of it.
            caller.check_still()?;
            let news = match news? {
                News::Event(event) => v2::subscribe_response::News::Event(event_of(*event)),
                News::Position(position) => v2::subscribe_response::News::Position(position),
            };
            Ok(v2::SubscribeResponse { news: Some(news) })
        });
        Ok(Response::new(Box::pin(given)))
    }
}
