//! Which servers start: an address that others can reach needs a certificate and a key.

use keplordb_server::{Capture, Keys, Scope, ServerError, serve};

use super::ask::key;
use super::tls::{certificate, serving};

/// Starts a server and stops it at once.
async fn start(address: &str, has_certificate: bool, has_key: bool) -> Result<(), ServerError> {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if has_key {
        key(dir.path(), "shop", &[Scope::Ingest]);
    }
    let tls = has_certificate.then(|| certificate(files.path()));
    let capture = Capture::open(dir.path()).unwrap();
    serve(capture, serving(address, tls), |_| (), async {}).await
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_a_certificate_and_a_key() {
    let (own, others) = ("127.0.0.1:0", "0.0.0.0:0");
    for (address, has_certificate, has_key, missing) in [
        (own, false, false, None),
        (own, false, true, None),
        (own, true, false, None),
        (own, true, true, None),
        (others, false, false, Some("nothing is encrypted, and there is no good key")),
        (others, false, true, Some("nothing is encrypted: give a certificate")),
        (others, true, false, Some("there is no good key: `keplor keys add")),
        (others, true, true, None),
    ] {
        let started = start(address, has_certificate, has_key).await;
        let case = format!("{address}, certificate: {has_certificate}, key: {has_key}");
        match (started, missing) {
            (Ok(()), None) => {}
            (Err(error @ ServerError::NotLoopback { .. }), Some(missing)) => {
                assert!(error.to_string().contains(missing), "{case}: {error}");
            }
            (started, _) => panic!("{case}: {started:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_that_was_taken_back_lets_no_server_start() {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    key(dir.path(), "shop", &[Scope::Ingest]);
    Keys::revoke(dir.path(), "shop").unwrap();
    let capture = Capture::open(dir.path()).unwrap();
    let serving = serving("0.0.0.0:0", Some(certificate(files.path())));
    let error = serve(capture, serving, |_| (), async {}).await.unwrap_err();
    assert!(matches!(error, ServerError::NotLoopback { .. }), "{error}");
}

/// What is done to the files of a certificate.
#[cfg(unix)]
type Spoil = fn(&keplordb_server::Tls);

#[cfg(unix)]
#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_in_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = tempfile::tempdir().unwrap();
    let spoil: [(&str, Spoil); 4] = [
        ("it is not there", |tls| std::fs::remove_file(&tls.key).unwrap()),
        ("it has no certificate", |tls| std::fs::write(&tls.certificate, "canary").unwrap()),
        ("it has no private key", |tls| std::fs::write(&tls.key, "canary").unwrap()),
        ("mode 644", |tls| {
            std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        }),
    ];
    for (why, spoil) in spoil {
        let tls = certificate(files.path());
        spoil(&tls);
        let dir = tempfile::tempdir().unwrap();
        let capture = Capture::open(dir.path()).unwrap();
        let error = serve(capture, serving("127.0.0.1:0", Some(tls)), |_| (), async {}).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(why) && !error.contains("canary"), "{why}: {error}");
    }
}
