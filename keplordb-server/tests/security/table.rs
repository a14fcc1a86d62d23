//! Every route and method with every kind of key.

use std::collections::BTreeSet;
use std::path::Path;

use keplordb_server::auth::{Need, TABLE};
use keplordb_server::grpc::DESCRIPTORS;
use keplordb_server::{Keys, Scope};
use prost_reflect::DescriptorPool;

use super::ask::{Said, ask, ask_as, ask_grpc, bearer, is_grpc, key};
use super::common::serving;

/// Paths of the methods that are served, from what reflection tells of them.
fn methods() -> BTreeSet<String> {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = BTreeSet::new();
    for set in sets {
        for service in DescriptorPool::decode(set).unwrap().services() {
            for method in service.methods() {
                paths.insert(format!("/{}/{}", service.full_name(), method.name()));
            }
        }
    }
    paths
}

/// Methods and paths of the routes, from the source that makes them.
fn routes() -> BTreeSet<(String, String)> {
    let source = include_str!("../../src/http/mod.rs");
    let mut found = BTreeSet::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, handlers) = route.lines().next().and_then(|route| route.split_once('"')).unwrap();
        if cfg!(not(feature = "sql")) && ["/sql", "/rql"].contains(&path) {
            continue;
        }
        let before = found.len();
        for method in ["get", "post", "put", "delete", "patch", "any", "options", "trace", "connect"] {
            if handlers.contains(&format!("{method}(")) {
                found.insert((method.to_uppercase(), path.to_owned()));
            }
        }
        assert!(found.len() > before, "no method is seen in {route}");
    }
    assert!(found.len() > 10, "the source is written in another way: {found:?}");
    found
}

#[test]
fn every_route_and_method_has_a_row_and_every_row_is_one() {
    let rows: BTreeSet<_> = TABLE.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    let methods = methods().into_iter().map(|path| ("POST".to_owned(), path));
    let served: BTreeSet<_> = routes().into_iter().chain(methods).collect();
    let without: Vec<_> = served.difference(&rows).collect();
    assert!(without.is_empty(), "say in auth/table.rs who may use {without:?}");
    let gone: Vec<_> = rows.difference(&served).collect();
    assert!(gone.is_empty(), "nobody can ask for {gone:?}");
    for scope in Scope::ALL {
        assert!(TABLE.iter().any(|row| row.need == Need::Scope(scope)), "{scope} is good for nothing");
    }
}

/// A kind of key, the header's value, and whether it is good.
struct Brought {
    what: &'static str,
    header: Option<String>,
    scope: Option<Scope>,
}

fn brought(root: &Path) -> Vec<Brought> {
    let mut all = vec![
        Brought { what: "no key", header: None, scope: None },
        Brought { what: "a bad key", header: Some(bearer("keplor_key_bad")), scope: None },
        Brought { what: "another scheme", header: Some("Basic a2V5OmtleQ==".to_owned()), scope: None },
    ];
    let expired = key(root, "expired", &Scope::ALL);
    let revoked = key(root, "revoked", &Scope::ALL);
    for (what, key) in [("an expired key", expired), ("a revoked key", revoked)] {
        all.push(Brought { what, header: Some(bearer(&key)), scope: None });
    }
    for scope in Scope::ALL {
        let header = Some(bearer(&key(root, scope.name(), &[scope])));
        all.push(Brought { what: scope.name(), header, scope: Some(scope) });
    }
    Keys::revoke(root, "revoked").unwrap();
    expire(root, "expired");
    all
}

/// Makes a key one that expired long ago, which none is made as.
fn expire(root: &Path, name: &str) {
    let file = root.join("_meta/keys.json");
    let mut keys: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        if key["name"] == name {
            key["expires"] = "2001-01-01T00:00:00Z".into();
        }
    }
    std::fs::write(file, keys.to_string()).unwrap();
}

fn expected(need: Need, scope: Option<Scope>) -> Said {
    match (need, scope) {
        (Need::Nothing, _) => Said::LetIn,
        (_, None) => Said::Unauthenticated,
        (Need::Scope(needed), Some(scope)) if needed != scope => Said::Denied,
        _ => Said::LetIn,
    }
}

#[tokio::test]
async fn every_route_and_method_lets_in_whom_its_row_says() {
    let dir = tempfile::tempdir().unwrap();
    let brought = brought(dir.path());
    serving(dir.path(), async |address| {
        for row in TABLE {
            let path = row.path.replace("{type}", "User").replace("{id}", "user_1");
            for Brought { what, header, scope } in &brought {
                let headers: Vec<_> =
                    header.iter().map(|header| ("authorization", header.as_str())).collect();
                let answer = ask(address, row.method, &path, &headers).await;
                assert_eq!(answer.said(), expected(row.need, *scope), "{path} with {what}: {answer:?}");
                if answer.said() == Said::LetIn {
                    // It is answered, and not by the gate, which knows nothing there.
                    let is_nothing =
                        answer.text.contains("there is nothing here") || answer.grpc_status == Some(12);
                    assert!(!is_nothing, "{path} has a row and nobody who answers: {answer:?}");
                } else {
                    // To gRPC it is said in its own way, and to others in theirs.
                    assert_eq!(
                        answer.grpc_status.is_some(),
                        is_grpc(&path),
                        "{path} with {what}: {answer:?}"
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn without_keys_this_machine_may_ask_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        for row in TABLE {
            let path = row.path.replace("{type}", "User").replace("{id}", "user_1");
            let answer = ask(address, row.method, &path, &[]).await;
            assert_eq!(answer.said(), Said::LetIn, "{path}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_has_no_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let all = bearer(&key(dir.path(), "all", &Scope::ALL));
    serving(dir.path(), async |address| {
        let key = [("authorization", all.as_str())];
        for path in ["/e/", "/admin", "/metrics/", "/e/User/user_1/secrets", "/_meta/keys.json", "//healthz"]
        {
            let answer = ask(address, "GET", path, &key).await;
            assert_eq!(answer.status, 404, "{path}: {answer:?}");
        }
        for method in ["DELETE", "PATCH", "PUT", "OPTIONS", "TRACE", "get", "HEADS"] {
            let answer = ask(address, method, "/events", &key).await;
            assert_eq!(answer.status, 405, "{method}: {answer:?}");
        }
        // HEAD is answered by what answers GET, so it needs what that needs.
        assert_eq!(ask(address, "HEAD", "/e", &key).await.status, 200);
        assert_eq!(ask(address, "HEAD", "/e", &[]).await.status, 401);
        assert_eq!(ask(address, "HEAD", "/schema", &[]).await.status, 401);
        for path in [
            "/reflog.v1.IngestService/Drop",
            "/reflog.v9.IngestService/Ingest",
            "/grpc.health.v1.Health/",
            "/reflog.v1.IngestService/ingest",
            "/reflog.v1.IngestService/%49ngest",
            "/reflog.v1.IngestService/./Ingest",
            "/reflog.v1.HealthService/../reflog.v1.IngestService/Ingest",
            "/reflog.v1.IngestService/Ingest/HealthCheck",
            "/reflog.v1.IngestService/",
        ] {
            let answer = ask(address, "POST", path, &key).await;
            assert_eq!(answer.grpc_status, Some(12), "{path}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn no_other_way_to_write_a_path_or_a_kind_gets_past_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    key(dir.path(), "all", &Scope::ALL);
    serving(dir.path(), async |address| {
        for (method, path) in [
            ("GET", "/e?"),
            ("GET", "/%65"),
            ("GET", "/./e"),
            ("GET", "/healthz/../e"),
            ("GET", "/healthz/%2e%2e/e"),
            ("GET", "//e"),
            ("GET", "/e/"),
            ("GET", "/e;/healthz"),
            ("GET", "/e/User/healthz"),
            ("GET", "/healthz%00/e"),
            ("GET", "/healthz/e"),
            ("POST", "/healthz"),
            ("OPTIONS", "*"),
            ("GET", "http://localhost/e"),
            ("GET", "http://localhost/schema"),
            ("POST", "//reflog.v1.IngestService/Ingest"),
            ("POST", "/x/reflog.v1.IngestService/Ingest"),
        ] {
            let answer = ask(address, method, path, &[]).await;
            assert!([401, 404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
        }
        // Methods of gRPC, as what browsers call gRPC-web, as something else, and by other methods of HTTP.
        let path = "/reflog.v1.IngestService/Ingest";
        for (method, kind) in [
            ("POST", "application/grpc-web"),
            ("POST", "application/grpc-web-text+proto"),
            ("POST", "application/grpc+json"),
            ("POST", "application/json"),
            ("POST", "text/plain"),
            ("GET", "application/grpc"),
            ("PUT", "application/grpc"),
            ("OPTIONS", "application/grpc"),
        ] {
            let answer = ask_as(address, method, path, kind, &[]).await;
            let is_kept_out = answer.status == 415 || answer.said() == Said::Unauthenticated;
            assert!(is_kept_out, "{method} {kind}: {answer:?}");
        }
        // A second host is somebody else's, whichever of them counts elsewhere.
        assert_eq!(ask(address, "GET", "/healthz", &[("host", "localhost")]).await.status, 403);
        // What is no method of gRPC is none because it says so.
        let answer = ask_as(address, "GET", "/e", "application/grpc", &[]).await;
        assert_eq!(answer.said(), Said::Unauthenticated, "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn what_needs_no_key_takes_next_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    key(dir.path(), "all", &Scope::ALL);
    serving(dir.path(), async |address| {
        for path in ["/grpc.health.v1.Health/Check", "/reflog.v1.HealthService/HealthCheck"] {
            // The message is said to have so many bytes; none of them need come.
            for (length, refused) in [
                ([0, 0, 0, 0], None),
                ([0, 0, 16, 1], Some(11)),
                ([1, 0, 0, 0], Some(11)),
                ([255; 4], Some(11)),
            ] {
                let answer = ask_grpc(address, path, length).await;
                assert_eq!(
                    (answer.status, answer.grpc_status),
                    (200, refused),
                    "{path}, {length:?}: {answer:?}"
                );
            }
        }
    })
    .await;
}
