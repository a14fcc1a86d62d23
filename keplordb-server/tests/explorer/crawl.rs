//! Every page that can be reached from the first one, over every link and every form.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::common::serving;
use super::markup::{Piece, attribute, pieces, resolved, text};
use super::seed::{CANARY, hostile, seed};
use super::web::{Answer, ask, encoded, json, page};

/// Bytes of a page at most.
const PAGE_BYTES_MAX: usize = 120_000;
/// Pages of each kind that are walked through: the thousandth user looks like the others.
const OF_A_KIND: usize = 12;
/// Elements that a page may have.
const ELEMENTS: &[&str] = &[
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "ul", "ol", "li",
    "form", "label", "input", "button", "select", "option", "section", "p", "strong", "details", "summary",
    "main", "h1", "h2", "h3", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "time",
    "wbr", "bdi", "code", "pre", "dl", "dt", "dd", "output", "footer", "kbd", "ins", "del", "figure", "svg",
    "text", "circle", "path",
];

/// That a page is one, and nothing of an event in it is more than text.
pub(crate) fn check(path: &str, answer: &Answer) -> Vec<Piece> {
    assert!(answer.is_page(), "{path}: {answer:?}");
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{path}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
    assert!(answer.body.len() <= PAGE_BYTES_MAX, "{path} has {} bytes", answer.body.len());
    let pieces = pieces(&answer.body);
    let count = |wanted: &str| {
        pieces.iter().filter(|piece| matches!(piece, Piece::Open { name, .. } if name == wanted)).count()
    };
    assert_eq!((count("h1"), count("main"), count("script")), (1, 1, 1), "{path}");
    let title =
        pieces.iter().position(|piece| matches!(piece, Piece::Open { name, .. } if name == "title")).unwrap();
    assert!(matches!(&pieces[title + 1], Piece::Text(title) if !title.is_empty()), "{path} has no title");
    let mut ids = BTreeSet::new();
    for piece in &pieces {
        let Piece::Open { name, attributes } = piece else { continue };
        assert!(ELEMENTS.contains(&name.as_str()), "{path}: <{name}>");
        for (attribute, value) in attributes {
            assert!(!attribute.starts_with("on") && attribute != "style", "{path}: {attribute} in <{name}>");
            assert!(!attribute.contains(CANARY), "{path}: {attribute}");
            if attribute == "id" {
                assert!(ids.insert(value.clone()), "{path}: two elements are {value:?}");
            }
        }
        if name == "script" {
            assert!(attributes[0].1.contains("static/explorer.js"), "{path}: {attributes:?}");
        }
    }
    for piece in &pieces {
        for name in ["for", "aria-labelledby"] {
            for element in ["label", "section", "svg", "output"] {
                if let Some(id) = attribute(piece, element, name) {
                    assert!(ids.contains(id), "{path}: {name}={id} means nothing");
                }
            }
        }
    }
    pieces
}

/// Pages that differ in their names, times and numbers only.
fn kind(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let path = match segments.as_slice() {
        ["e", of_type, _, rest @ ..] => format!("e/{of_type}/*/{}", rest.join("/")),
        ["events", sequence] if *sequence != "stream" => "events/*".to_owned(),
        segments => segments.join("/"),
    };
    let names: BTreeSet<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    format!("{path}?{names:?}")
}

/// What the forms of a page send when nothing is typed.
fn forms(page: &str, pieces: &[Piece]) -> Vec<String> {
    let mut sent = Vec::new();
    let mut form: Option<(String, Vec<String>)> = None;
    for piece in pieces {
        if let Some(method) = attribute(piece, "form", "method") {
            let action = attribute(piece, "form", "action").expect("a form says where it goes");
            form = (method == "get").then(|| (resolved(page, action), Vec::new()));
        }
        if let (Some(name), Some((_, pairs))) = (attribute(piece, "input", "name"), &mut form)
            && attribute(piece, "input", "type") != Some("checkbox")
        {
            let value = attribute(piece, "input", "value").unwrap_or_default();
            pairs.push(format!("{}={}", encoded(name), encoded(value)));
        }
        if matches!(piece, Piece::Close(name) if name == "form")
            && let Some((action, pairs)) = form.take()
        {
            sent.push(format!("{action}?{}", pairs.join("&")));
        }
    }
    sent
}

async fn crawl(address: SocketAddr, from: &str) -> BTreeMap<String, u16> {
    let mut seen = BTreeMap::new();
    let mut of_kind: BTreeMap<String, usize> = BTreeMap::new();
    let mut left: VecDeque<(String, String)> =
        VecDeque::from([(from.to_owned(), "the address bar".to_owned())]);
    while let Some((path, on)) = left.pop_front() {
        if seen.contains_key(&path) {
            continue;
        }
        let of_kind = of_kind.entry(kind(&path)).or_default();
        *of_kind += 1;
        if *of_kind > OF_A_KIND {
            continue;
        }
        let answer = page(address, &path).await;
        seen.insert(path.clone(), answer.status);
        if path.contains("format=json") {
            assert!(
                answer.status == 200 && serde_json::from_str::<serde_json::Value>(&answer.body).is_ok(),
                "{path}, on {on}: {answer:?}"
            );
            continue;
        }
        if path.starts_with("/static/") {
            assert_eq!(answer.status, 200, "{path}, on {on}");
            continue;
        }
        if answer.status == 303 {
            left.push_back((resolved(&path, answer.header("location").unwrap()), path));
            continue;
        }
        let is_there = answer.status == 200 || (cfg!(not(feature = "sql")) && path.contains("q="));
        assert!(is_there, "{path}, on {on}: {answer:?}");
        let pieces = check(&path, &answer);
        for piece in &pieces {
            for (element, name) in [("a", "href"), ("link", "href"), ("script", "src")] {
                if let Some(href) = attribute(piece, element, name) {
                    left.push_back((resolved(&path, href), path.clone()));
                }
            }
        }
        left.extend(forms(&path, &pieces).into_iter().map(|form| (form, path.clone())));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_link_and_form_leads_to_a_page() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        let seen = crawl(address, "/").await;
        for part in [
            "/history",
            "/blame",
            "/diff",
            "/versions",
            "/schema/Order",
            "/events/",
            "/find",
            "as_of=",
            "known_at=",
        ] {
            assert!(
                seen.keys().any(|path| path.contains(part)),
                "{part} was not found among {} pages",
                seen.len()
            );
        }
        assert!(seen.len() > 100, "{} pages", seen.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_ids_have_all_pages_and_are_text_on_them() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        for id in hostile() {
            if id == "." || id == ".." {
                // A browser cannot name it; the page that finds it says how it can be asked for.
                let found = page(address, &format!("/find?q=Hostile%2F{id}")).await;
                assert!(text(&check(&id, &found)).contains("--path-as-is"), "{found:?}");
                continue;
            }
            for part in ["", "/history", "/blame", "/diff", "/versions"] {
                let path = format!("/e/Hostile/{}{part}", encoded(&id));
                let answer = page(address, &path).await;
                assert_eq!(answer.status, 200, "{path}");
                assert!(text(&check(&path, &answer)).contains(&id), "{path} does not show its id");
            }
        }
        // What is refused says what was asked for, and is text too.
        for path in [
            format!("/e/%3Cscript%3E{CANARY}%3C/script%3E"),
            format!("/e/Hostile/%22%3E%3Cimg%20src=x%20onerror={CANARY}%3E"),
            format!("/e/Hostile?as_of=%3Cscript%3E{CANARY}()"),
            format!("/e/Hostile?begin=%3Cscript%3E{CANARY}()"),
            format!("/e/Hostile?%3Cscript%3E{CANARY}=1"),
            format!("/find?q=%3Cscript%3E{CANARY}()"),
            format!("/events?type=%22%3E%3Cscript%3E{CANARY}&id='%3E"),
            format!("/events/%3Cscript%3E{CANARY}"),
            format!("/schema?version=%3Cscript%3E{CANARY}"),
            format!("/schema/%3Cscript%3E{CANARY}"),
            format!("/login?to=%22%3E%3Cscript%3E{CANARY}"),
            format!("/static/%3Cscript%3E{CANARY}"),
            format!("/%3Cscript%3E{CANARY}"),
            format!("/e/Hostile/{}", "x".repeat(4096)),
            "/e/Hostile/a%00b".to_owned(),
            "/e/Hostile/%ff%fe".to_owned(),
        ] {
            let answer = page(address, &path).await;
            assert!(answer.status < 500, "{path}: {answer:?}");
            check(&path, &answer);
        }
    })
    .await;
}

#[tokio::test]
async fn pages_show_what_the_json_says() {
    let dir = tempfile::tempdir().unwrap();
    seed(dir.path()).await;
    serving(dir.path(), async |address| {
        for query in ["", "?as_of=2024-02-15T00:00:00Z", "?as_of=2024-01-02"] {
            let path = format!("/e/User/user_7{query}");
            let entity = json(address, &path).await;
            let shown = text(&check(&path, &page(address, &path).await));
            for (name, value) in entity["state"].as_object().unwrap() {
                assert!(shown.contains(name), "{path}: {name}");
                if let Some(value) = value.as_str() {
                    assert!(shown.contains(value), "{path}: {name} is {value}");
                }
            }
        }
        let events = json(address, "/e/User/user_7/history").await;
        let history = text(&check("", &page(address, "/e/User/user_7/history").await));
        for event in events.as_array().unwrap() {
            assert!(history.contains(&format!("#{}", event["sequence"])), "{history}");
        }
        for words in ["newest first", "out of order", "late", "\"team\"", "\"Grace\""] {
            assert!(history.contains(words) || words == "late", "{words}: {history}");
        }
        // What a program gets is what it always got.
        for accept in ["application/json", "*/*", "application/json, text/html;q=0.1"] {
            let answer = ask(address, "GET", "/e/User/user_7", &[("accept", accept)], "").await;
            assert_eq!(answer.header("content-type"), Some("application/json"), "{accept}");
        }
        let asked = page(address, "/e/User/user_7?format=json").await;
        assert_eq!((asked.status, asked.header("content-type")), (200, Some("application/json")));
        assert_eq!(asked.header("vary"), Some("accept"));
    })
    .await;
}

#[tokio::test]
async fn files_are_kept_by_browsers_until_they_are_others() {
    let dir = tempfile::tempdir().unwrap();
    serving(dir.path(), async |address| {
        let first = page(address, "/").await;
        let pieces = check("/", &first);
        let style = pieces.iter().find_map(|piece| attribute(piece, "link", "href")).unwrap();
        let style = resolved("/", style);
        let answer = ask(address, "GET", &style, &[], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/css; charset=utf-8")));
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        let tag = answer.header("etag").unwrap();
        let again = ask(address, "GET", &style, &[("if-none-match", tag)], "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        let bare = ask(address, "GET", "/static/explorer.js", &[], "").await;
        assert_eq!((bare.status, bare.header("cache-control")), (200, Some("public, no-cache")));
        assert!(!bare.body.contains("innerHTML"), "texts are put in as texts");
        assert_eq!(ask(address, "GET", "/static/..%2f..%2fCargo.toml", &[], "").await.status, 404);
    })
    .await;
}
