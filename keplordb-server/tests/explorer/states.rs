//! What is empty, over, or not there: each says so, and what to do.

use super::common::serving;
use super::crawl::check;
use super::markup::{attribute, text};
use super::seed::seed;
use super::web::{ask, page};

#[tokio::test]
async fn a_root_without_events_says_how_to_send_one() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        for path in ["/", "/e", "/events"] {
            let shown = text(&check(path, &page(address, path).await));
            assert!(shown.contains(&format!("keplor ingest --server http://{address}")), "{path}: {shown}");
        }
        let schema = page(address, "/schema").await;
        assert_eq!(schema.status, 200);
        assert!(text(&check("/schema", &schema)).contains("--schema"));
        // What the page says works.
        let body = r#"{"entity_type": "User", "entity_id": "user_123", "operation": "CREATE", "payload": {"name": "Ada"}}"#;
        let sent = ask(address, "POST", "/events", &[("content-type", "application/json")], body).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        assert!(text(&check("/e", &page(address, "/e").await)).contains("User"));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_says_why_and_leads_on() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        let cases = [
            ("/e/User/user_7?as_of=2020-01-01T00:00:00Z", 200, "It was not there yet"),
            ("/e/User/user_7/history?as_of=2020-01-01T00:00:00Z", 200, "It was not there yet"),
            ("/e/User/user_7?known_at=2020-01-01T00:00:00Z", 200, "It was not there yet"),
            ("/e/User/user_777", 404, "Ids near it"),
            ("/e/Order/user_7", 404, "Other types have it"),
            ("/e/Nothing/user_7", 404, "There is no Nothing with this id"),
            ("/e/Nothing", 404, "There is no event of this type"),
            ("/e/Empty", 200, "no event of it has come in yet"),
            ("/e/User?as_of=2020-01-01", 200, "not there yet at this instant"),
            ("/e/User?begin=zzz", 200, "No id begins with"),
            ("/e/Gone?begin=gone", 200, "3 entities, all deleted"),
            ("/e/Gone/gone_1", 200, "The state before the deletion"),
            ("/e/Gone/never", 200, "It never had a state"),
            ("/e/Large/bytes", 200, "It has no fields"),
            ("/e/Large/wide", 200, "1,940 more fields"),
            ("/e/User/user_7?as_of=yesterday", 400, "This cannot be asked so"),
            ("/e/User/user_7?asof=2020", 400, "This cannot be asked so"),
            ("/events/99999999", 404, "There is no event 99999999"),
            ("/events/x", 400, "This cannot be asked so"),
            ("/events?as_of=1969-01-01", 200, "No event had happened"),
            ("/schema?version=9", 404, "There is nothing here"),
            ("/schema/Nothing", 404, "There is nothing here"),
            ("/nothing", 404, "There is nothing here"),
            ("/find?q=zzz", 200, "No entity has the id"),
            ("/find", 200, "Type an id above"),
        ];
        for (path, status, words) in cases {
            let answer = page(address, path).await;
            let shown = text(&check(path, &answer));
            assert_eq!(answer.status, status, "{path}: {shown}");
            assert!(shown.contains(words), "{path}: {shown}");
        }
        // To a program it is what it was.
        assert_eq!(
            ask(address, "GET", "/e/User/user_7?as_of=2020-01-01T00:00:00Z", &[], "").await.status,
            404
        );
    })
    .await;
}

#[tokio::test]
async fn an_instant_is_named_and_kept_until_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        let path = "/e/User/user_7?as_of=2024-02-15T00%3A00%3A00.000Z";
        let answer = page(address, path).await;
        let pieces = check(path, &answer);
        let shown = text(&pieces);
        assert!(shown.contains("Thursday, 15 February 2024, 00:00:00.000 UTC"), "{shown}");
        assert!(shown.contains("user_7 · User · at 2024-02-15"), "{shown}");
        assert!(answer.body.contains("<html lang=\"en\" class=\"past\">"));
        let links: Vec<_> = pieces.iter().filter_map(|piece| attribute(piece, "a", "href")).collect();
        let history = links.iter().find(|href| href.contains("/history")).unwrap();
        assert!(history.contains("as_of=2024-02-15"), "{history}");
        assert!(links.contains(&"../../e/User/user_7"), "nothing leads back to now: {links:?}");
        // The slider's form leads to an instant.
        let moved = page(address, "/e/User/user_7?step=1").await;
        assert_eq!(moved.status, 303);
        assert!(
            moved.header("location").unwrap().contains("as_of=2024-01-01T00%3A07%3A00.000Z"),
            "{moved:?}"
        );
        let newest = page(address, "/e/User/user_7?step=99&as_of=2024-01-02").await;
        assert_eq!((newest.status, newest.header("location")), (303, Some("../../e/User/user_7")));
        // What a form for dates sends.
        let sent = page(address, "/e/User/user_7?as_of=2024-02-15T00%3A00&known_at=").await;
        assert!(text(&check("", &sent)).contains("Thursday, 15 February 2024"));
    })
    .await;
}

#[tokio::test]
async fn a_page_of_an_entity_is_small() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        for path in ["/e/User/user_7", "/e/Large/long", "/e/Large/wide", "/e/Order/order_1"] {
            let bytes = page(address, path).await.body.len();
            assert!(bytes < 60_000, "{path} has {bytes} bytes");
        }
    })
    .await;
}
