//! Signing in: a cookie that opens what only looks.

use keplordb_server::{Keys, NewKey, Scope};

use super::common::serving;
use super::crawl::check;
use super::markup::{attribute, text};
use super::seed::seed;
use super::web::{BROWSER, ask, encoded, page};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn key(root: &std::path::Path, name: &str, scopes: &[Scope], types: &[&str]) -> String {
    let types = types.iter().map(|name| (*name).to_owned()).collect();
    let new = NewKey { name: name.to_owned(), scopes: scopes.to_vec(), types, ..NewKey::default() };
    Keys::add(root, new).unwrap().1.expose().to_owned()
}

#[tokio::test]
async fn a_key_becomes_a_cookie_that_lets_one_look_and_not_change() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    let all = key(dir.path(), "everything", &Scope::ALL, &[]);
    serving(dir.path(), async |address| {
        let asked = page(address, "/e/User/user_7?as_of=2024-02-15").await;
        assert_eq!(asked.status, 401);
        let pieces = check("/e/User/user_7", &asked);
        let values: Vec<_> = pieces.iter().filter_map(|piece| attribute(piece, "input", "value")).collect();
        assert!(values.contains(&"/e/User/user_7?as_of=2024-02-15"), "{values:?}");
        assert!(!asked.body.contains("Grace"));

        for (body, status) in
            [("", 400), ("key=", 400), ("key=%3Cscript%3E", 400), ("key=keplor_key_wrong", 401)]
        {
            let refused = ask(address, "POST", "/login", &[BROWSER, FORM], body).await;
            assert_eq!((refused.status, refused.header("set-cookie")), (status, None), "{body}");
            check("/login", &refused);
        }
        let form = format!("to={}&key={all}", encoded("/e/User/user_7?as_of=2024-02-15"));
        let entered = ask(address, "POST", "/login", &[BROWSER, FORM], &form).await;
        assert_eq!(
            (entered.status, entered.header("location")),
            (303, Some("./e/User/user_7?as_of=2024-02-15"))
        );
        let set = entered.header("set-cookie").unwrap();
        assert!(
            set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"),
            "{set}"
        );
        let foreign = [BROWSER, FORM, ("origin", "http://evil.test")];
        assert_eq!(ask(address, "POST", "/login", &foreign, &form).await.status, 403);
        let away =
            ask(address, "POST", "/login", &[BROWSER, FORM], &format!("to=//evil.test&key={all}")).await;
        assert_eq!(away.header("location"), Some("./"));

        let cookie = set.split(';').next().unwrap();
        let signed = ("cookie", cookie);
        let shown = ask(address, "GET", "/e/User/user_7", &[BROWSER, signed], "").await;
        assert_eq!(shown.status, 200);
        assert!(
            text(&check("/e/User/user_7", &shown)).contains("everything"),
            "whose key it is stands on the page"
        );
        assert!(!shown.body.contains(&all), "the key itself does not");
        assert_eq!(ask(address, "HEAD", "/e", &[signed], "").await.status, 200);
        // By the cookie alone nothing changes.
        let json = ("content-type", "application/json");
        let record = r#"{"entity_type": "User", "entity_id": "u", "operation": "DELETE"}"#;
        assert_eq!(ask(address, "POST", "/events", &[signed, json], record).await.status, 401);
        assert_eq!(ask(address, "PUT", "/schema", &[signed], "x").await.status, 401);

        let left = ask(address, "POST", "/logout", &[BROWSER, FORM, signed], "").await;
        assert_eq!(left.status, 303);
        assert!(left.header("set-cookie").unwrap().starts_with("keplor_key=; "), "{left:?}");
        assert_eq!(ask(address, "GET", "/logout", &[BROWSER, signed], "").await.status, 405);
    })
    .await;
}

#[tokio::test]
async fn a_key_for_some_types_sees_those() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    let cookie = format!("keplor_key={}", key(dir.path(), "orders", &[Scope::Read], &["Order"]));
    let blind = format!("keplor_key={}", key(dir.path(), "sender", &[Scope::Ingest], &[]));
    serving(dir.path(), async |address| {
        let get = async |path: &str| ask(address, "GET", path, &[BROWSER, ("cookie", &cookie)], "").await;
        for path in ["/", "/e", "/events", "/find?q=user", "/e/Order/order_7"] {
            let answer = get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            let shown = text(&check(path, &answer));
            assert!(!shown.contains("Hostile") && !shown.contains("Ada"), "{path}: {shown}");
        }
        assert!(text(&check("", &get("/events").await)).contains("order_59"));
        for path in ["/e/User", "/e/User/user_7", "/e/User/user_7/blame", "/events?type=User", "/events/1"] {
            let answer = get(path).await;
            assert_eq!(answer.status, 403, "{path}");
            check(path, &answer);
        }
        let refused = ask(address, "GET", "/e", &[BROWSER, ("cookie", &blind)], "").await;
        assert_eq!(refused.status, 403);
        check("/e", &refused);
    })
    .await;
}
