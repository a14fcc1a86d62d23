//! A key that is taken back while the server runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keplordb_server::grpc::v2;
use keplordb_server::grpc::v2::capture_service_client::CaptureServiceClient;
use keplordb_server::grpc::v2::subscribe_request::Start;
use keplordb_server::{Keys, Scope};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use super::ask::{Said, ask, bearer, key};
use super::common::serving;

/// How long it may take until a change of the file is seen.
const SEEN_MAX: Duration = Duration::from_secs(10);

async fn follow(address: SocketAddr, own: Option<&str>) -> Streaming<v2::SubscribeResponse> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let asked = v2::SubscribeRequest { start: Some(Start::Now(true)), ..v2::SubscribeRequest::default() };
    let mut request = Request::new(asked);
    if let Some(own) = own {
        request.metadata_mut().insert("authorization", own.parse().unwrap());
    }
    CaptureServiceClient::new(channel).subscribe(request).await.unwrap().into_inner()
}

/// With which code the stream ends.
async fn end(news: &mut Streaming<v2::SubscribeResponse>) -> Code {
    let ended = timeout(2 * SEEN_MAX, async {
        loop {
            if let Err(status) = news.message().await.transpose().expect("a stream ends with a reason") {
                return status.code();
            }
        }
    });
    ended.await.expect("the stream ends")
}

#[tokio::test]
async fn a_revoked_key_is_refused_soon_and_its_streams_end() {
    let dir = tempfile::tempdir().unwrap();
    let text = key(dir.path(), "reader", &[Scope::Read]);
    serving(dir.path(), async |address| {
        let own = bearer(&text);
        let get = async || ask(address, "GET", "/e", &[("authorization", &own)]).await.said();
        assert_eq!(get().await, Said::LetIn);

        let mut news = follow(address, Some(&own)).await;

        Keys::revoke(dir.path(), "reader").unwrap();
        let begun = Instant::now();
        while get().await != Said::Unauthenticated {
            assert!(begun.elapsed() < SEEN_MAX, "the key is still good");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(end(&mut news).await, Code::PermissionDenied);

        let again = bearer(&key(dir.path(), "reader", &[Scope::Read]));
        while ask(address, "GET", "/e", &[("authorization", &again)]).await.said() != Said::LetIn {
            assert!(begun.elapsed() < 3 * SEEN_MAX, "the new key is not seen");
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_runs_asks_for_a_key_from_the_first_one_on() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        assert_eq!(ask(address, "GET", "/e", &[]).await.said(), Said::LetIn);
        let mut news = follow(address, None).await;
        key(dir.path(), "reader", &[Scope::Read]);
        let begun = Instant::now();
        while ask(address, "GET", "/e", &[]).await.said() != Said::Unauthenticated {
            assert!(begun.elapsed() < SEEN_MAX, "nobody is asked for a key");
            sleep(Duration::from_millis(50)).await;
        }
        // Who was there before is asked too.
        assert_eq!(end(&mut news).await, Code::PermissionDenied);
        // Without its file nobody has a key, and one is needed all the same.
        std::fs::remove_file(dir.path().join("_meta/keys.json")).unwrap();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(ask(address, "GET", "/e", &[]).await.said(), Said::Unauthenticated);
    })
    .await;
}
