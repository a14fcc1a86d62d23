//! The application as it is without a browser: pages and forms by plain HTTP, what the log has afterwards, and what is refused.

mod support;

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Answer, PATIENCE, Server, command};
use tempfile::TempDir;

struct App {
    data: TempDir,
    server: Server,
}

impl App {
    fn start() -> Self {
        let data = TempDir::new().unwrap();
        let server = Server::start(data.path(), Path::new("no program"));
        Self { data, server }
    }

    /// The types of the events in the log.
    fn events(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.data.path().join("app.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    fn page(&self) -> String {
        let page = self.server.get("/");
        assert_eq!(page.status, 200);
        page.body
    }

    /// What the page says after a form was sent and the way back was followed.
    fn message(&self, sent: &Answer) -> String {
        assert_eq!(sent.status, 303, "{}", sent.body);
        let page = self.server.get(sent.header("location").unwrap());
        assert_eq!(page.status, 200);
        let (_, rest) = page.body.split_once("<p id=\"message\"").unwrap();
        let (_, rest) = rest.split_once('>').unwrap();
        rest.split_once("</p>").unwrap().0.replace("<!>", "")
    }

    fn add(&self, text: &str) {
        let sent = self.server.form("add_todo", &[("text", text)]);
        assert_eq!((sent.status, sent.header("location")), (303, Some("/")), "{}", sent.body);
    }

    /// Created, completed, deleted, percent, as the page has them.
    fn stats(&self) -> Vec<String> {
        numbers(&self.page())
    }
}

fn numbers(page: &str) -> Vec<String> {
    let values = page.split("<dd>").skip(1);
    values.map(|value| value.split_once("</dd>").unwrap().0.replace("<!>", "")).collect()
}

#[test]
fn a_todo_is_added_ticked_and_deleted_by_forms() {
    let app = App::start();
    let page = app.page();
    assert!(page.contains("Nothing to do."), "{page}");
    assert_eq!(app.stats(), ["0", "0", "0", "0%"]);

    app.add("  buy\tmilk ");
    app.add("write docs");
    let page = app.page();
    assert!(page.contains("buy milk") && page.contains("write docs") && !page.contains("Nothing to do."));
    assert_eq!(page.matches("aria-checked=\"false\"").count(), 2);

    assert_eq!(app.message(&app.server.form("toggle_todo", &[("id", "1")])), "");
    assert_eq!(app.page().matches("aria-checked=\"true\"").count(), 1);
    assert_eq!(app.stats(), ["2", "1", "0", "50%"]);
    app.server.form("toggle_todo", &[("id", "1")]);
    app.server.form("toggle_todo", &[("id", "1")]);
    assert_eq!(app.stats(), ["2", "1", "0", "50%"], "a tick that came back counts once");

    assert_eq!(app.message(&app.server.form("delete_todo", &[("id", "2")])), "");
    assert!(!app.page().contains("write docs"));
    assert_eq!(app.stats(), ["2", "1", "1", "50%"]);
    let toggled = "todo_toggled";
    assert_eq!(app.events(), ["todo_added", "todo_added", toggled, toggled, toggled, "todo_deleted"]);
}

#[test]
fn what_cannot_be_is_refused_with_a_message_and_leaves_no_event() {
    let app = App::start();
    for (text, message) in [
        ("", "Please write what there is to do."),
        (" \n\t\u{200b}", "Please write what there is to do."),
        (&"x".repeat(501), "That is too long: 500 characters at most."),
    ] {
        assert_eq!(app.message(&app.server.form("add_todo", &[("text", text)])), message);
    }
    let gone = "This to-do is no longer there.";
    assert_eq!(app.message(&app.server.form("toggle_todo", &[("id", "7")])), gone);
    assert_eq!(app.message(&app.server.form("delete_todo", &[("id", "7")])), "", "it is as good as deleted");
    for (function, fields) in [
        ("add_todo", vec![]),
        ("toggle_todo", vec![]),
        ("toggle_todo", vec![("id", "-1")]),
        ("delete_todo", vec![("id", "99999999999999999999")]),
    ] {
        let message = app.message(&app.server.form(function, &fields));
        assert!(message.starts_with("The request failed: "), "{function} {fields:?}: {message}");
    }
    assert!(app.events().is_empty());

    app.add("one");
    for _ in 0..2 {
        assert_eq!(app.message(&app.server.form("delete_todo", &[("id", "1")])), "");
    }
    assert_eq!(app.events(), ["todo_added", "todo_deleted"], "the second time changed nothing");
}

#[test]
fn a_message_that_somebody_wrote_into_the_address_is_not_shown() {
    let app = App::start();
    // {"Request":"<img src=x>"}
    let page = app.server.get("/?__path=/api/add_todo&__err=eyJSZXF1ZXN0IjoiPGltZyBzcmM9eD4ifQ==");
    assert!(page.body.contains("The request failed: it was not understood"), "{}", page.body);
    assert!(!page.body.contains("src=x"), "it is not the server's word: {}", page.body);
    let page = app.server.get("/?__path=/api/add_todo&__err=rubbish");
    assert_eq!(page.status, 200);
}

#[test]
fn hostile_text_is_shown_as_text() {
    let app = App::start();
    let hostile = r#""><img src=x onerror=alert(1)></span></script><script>alert(2)</script>'&amp;"#;
    app.add(hostile);
    let page = app.server.get("/");
    assert!(page.body.contains("&lt;img src=x onerror=alert(1)&gt;"), "{}", page.body);
    assert!(!page.body.contains("<img") && !page.body.contains("<script>alert"), "{}", page.body);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("'nonce-"), "{policy}");
    assert!(!policy.contains("unsafe-inline"), "{policy}");
}

#[test]
fn forms_of_other_servers_change_nothing() {
    let app = App::start();
    for origin in ["http://evil.example", "null", "", &format!("http://{}.evil.example", app.server.address)]
    {
        let sent = app.server.form_from(origin, "add_todo", &[("text", "pwned")]);
        assert_eq!(sent.status, 403, "{origin}");
    }
    assert!(app.events().is_empty());
}

/// A page of evil.example whose name means this server by now sends what its browser takes for its own.
#[test]
fn who_calls_the_server_by_a_foreign_name_gets_and_changes_nothing() {
    let app = App::start();
    app.add("secret");
    let port = app.server.address.split_once(':').unwrap().1;
    let evil = format!("evil.example:{port}");
    let head = format!(
        "origin: http://{evil}\r\nsec-fetch-site: same-origin\r\naccept: application/json\r\n\
         content-type: application/x-www-form-urlencoded\r\n"
    );
    for (method, path, body) in [
        ("POST", "/api/delete_todo", "id=1"),
        ("POST", "/api/get_todos", ""),
        ("GET", "/", ""),
        ("GET", "/nowhere", ""),
        ("GET", "/changes", ""),
    ] {
        let answer = app.server.request_by(&evil, method, path, &head, body);
        assert_eq!(answer.status, 421, "{method} {path}");
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    assert_eq!(app.events(), ["todo_added"]);
    for own in [&format!("localhost:{port}"), &format!("[::1]:{port}"), "127.0.0.1"] {
        assert_eq!(app.server.request_by(own, "GET", "/", "accept: text/html\r\n", "").status, 200, "{own}");
    }
}

#[test]
fn a_server_has_the_names_that_it_was_given() {
    let data = TempDir::new().unwrap();
    let names = ["--host", "todos.example", "--host", "other.example"];
    let server = Server::start_with(data.path(), Path::new("no program"), &names);
    let add = |host: &str, origin: &str| {
        let head =
            format!("origin: {origin}\r\ncontent-type: application/x-www-form-urlencoded\r\naccept: */*\r\n");
        server.request_by(host, "POST", "/api/add_todo", &head, "text=one").status
    };
    assert_eq!(add("todos.example", "https://todos.example"), 200);
    assert_eq!(add("OTHER.example:80", "http://OTHER.example:80"), 200);
    assert_eq!(add(&server.address, "https://todos.example"), 200, "a server before it may say its address");
    assert_eq!(add("evil.example", "http://evil.example"), 421);
    assert_eq!(add("todos.example", "http://evil.example"), 403);
}

#[test]
fn pages_of_other_servers_cannot_listen() {
    let app = App::start();
    let mut line = String::new();
    app.server.changes_from("cross-site").read_line(&mut line).unwrap();
    assert!(line.contains(" 403 "), "{line}");
}

/// A to-do as the log has it.
fn added(id: u64) -> String {
    let data = serde_json::json!({"id": id, "text": "one of many", "created_at": 1});
    format!("{}\n", serde_json::json!({"type": "todo_added", "data": data, "ts": 1}))
}

/// An event that the views cannot take.
const UNFIT: &str = "{\"type\":\"todo_toggled\",\"data\":{\"id\":\"one\"},\"ts\":1}\n";

#[test]
fn nothing_is_accepted_while_it_cannot_be_shown() {
    let app = App::start();
    app.add("one");
    let log = app.data.path().join("app.jsonl");
    let mut lines = std::fs::read_to_string(&log).unwrap();
    lines.push_str(UNFIT);
    std::fs::write(&log, &lines).unwrap();
    for _ in 0..2 {
        let message = app.message(&app.server.form("add_todo", &[("text", "two")]));
        assert!(message.starts_with("The change could not be saved."), "{message}");
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), lines, "what is not accepted is not in the log");
}

#[test]
fn a_log_without_a_number_left_takes_no_more() {
    let data = TempDir::new().unwrap();
    std::fs::write(data.path().join("app.jsonl"), added(u64::MAX)).unwrap();
    let app = App { server: Server::start(data.path(), Path::new("no program")), data };
    let message = app.message(&app.server.form("add_todo", &[("text", "one more")]));
    assert!(message.starts_with("The list is full"), "{message}");
    assert_eq!(app.events().len(), 1);
}

#[test]
fn a_request_that_is_too_large_changes_nothing() {
    let app = App::start();
    let sent = app.server.form("add_todo", &[("text", &"x".repeat(100_000))]);
    assert!(app.message(&sent).starts_with("The request failed: "));
    assert!(app.events().is_empty());
}

#[test]
fn programs_get_json() {
    let app = App::start();
    let added = app.server.call("add_todo", "text=one");
    assert_eq!((added.status, added.body.as_str()), (200, "1"));
    let todos: serde_json::Value = serde_json::from_str(&app.server.call("get_todos", "").body).unwrap();
    assert_eq!((&todos[0]["text"], &todos[0]["done"]), (&"one".into(), &false.into()));
    let stats: serde_json::Value = serde_json::from_str(&app.server.call("get_stats", "").body).unwrap();
    assert_eq!(stats, serde_json::json!({"created": 1, "completed": 0, "deleted": 0}));
    let refused = app.server.call("add_todo", "text=");
    assert_eq!((refused.status, refused.body.as_str()), (422, "\"NoText\""));
}

#[test]
fn programs_are_told_whose_mistake_it_was() {
    let app = App::start();
    for (function, body, status) in [
        ("add_todo", "text=", 422),
        ("add_todo", &format!("text={}", "x".repeat(501)), 422),
        ("toggle_todo", "id=7", 404),
        ("toggle_todo", "id=-1", 400),
        ("toggle_todo", "", 400),
        ("add_todo", &format!("text={}", "x".repeat(100_000)), 400),
        ("delete_todo", "id=7", 200),
    ] {
        assert_eq!(app.server.call(function, body).status, status, "{function} {body:.20}");
    }
    std::fs::write(app.data.path().join("app.jsonl"), UNFIT).unwrap();
    assert_eq!(app.server.call("add_todo", "text=one").status, 500);
}

#[test]
fn a_page_that_is_not_there_says_so_and_has_a_way_back() {
    let app = App::start();
    let page = app.server.get("/nowhere");
    assert_eq!(page.status, 404);
    assert!(page.body.contains("Nothing here") && page.body.contains("href=\"/\""), "{}", page.body);
    assert!(page.header("content-security-policy").is_some(), "{}", page.head);
}

#[test]
fn to_look_writes_nothing() {
    let app = App::start();
    app.add("one");
    let list = |dir: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            entries.map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap())).collect();
        files.sort();
        files
    };
    let all = || (list(app.data.path()), list(&app.data.path().join("views")));
    let before = all();
    for _ in 0..3 {
        app.page();
        app.server.call("get_todos", "");
        app.server.call("get_stats", "");
    }
    assert_eq!(all(), before);
}

#[test]
fn many_at_the_same_time_are_all_kept() {
    let app = App::start();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let app = &app;
            scope.spawn(move || (0..10).for_each(|n| app.add(&format!("todo {thread}-{n}"))));
        }
    });
    let page = app.page();
    for thread in 0..8 {
        for n in 0..10 {
            assert!(page.contains(&format!(">todo {thread}-{n}")), "todo {thread}-{n}");
        }
    }
    assert_eq!(app.stats(), ["80", "0", "0", "0%"]);
}

#[test]
fn many_at_the_same_time_do_not_fill_the_list_above_its_limit() {
    let data = TempDir::new().unwrap();
    let lines: Vec<_> = (1..=995).map(added).collect();
    std::fs::write(data.path().join("app.jsonl"), lines.concat()).unwrap();
    let app = App { server: Server::start(data.path(), Path::new("no program")), data };
    let mut answers = std::thread::scope(|scope| {
        let add = || app.server.call("add_todo", "text=one+more").status;
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(add)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    answers.sort_unstable();
    assert_eq!(answers[..6], [200, 200, 200, 200, 200, 409]);
    assert_eq!(answers[31], 409);
    assert_eq!(app.events().len(), 1_000);
}

#[test]
fn a_page_is_never_older_than_it_says() {
    let app = App::start();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| (0..80).for_each(|n| app.add(&format!("todo {n}"))));
        while !adding.is_finished() {
            let page = app.page();
            let (_, version) = page.split_once("data-version=\"").unwrap();
            let version: u64 = version.split_once('"').unwrap().0.parse().unwrap();
            let created: u64 = numbers(&page)[0].parse().unwrap();
            // Each version is one that was added.
            assert!(created >= version, "version {version}, {created} created");
        }
    });
}

#[test]
fn only_so_many_may_listen_at_a_time() {
    let app = App::start();
    let status = || {
        let mut changes = app.server.changes();
        let mut line = String::new();
        changes.read_line(&mut line).unwrap();
        (line.split(' ').nth(1).unwrap().to_owned(), changes)
    };
    let mut listening: Vec<_> = (0..256).map(|_| status()).collect();
    assert!(listening.iter().all(|(status, _)| status == "200"));
    assert_eq!(status().0, "503");
    // Who goes leaves the place to another.
    listening.pop();
    let begin = Instant::now();
    while status().0 != "200" {
        assert!(begin.elapsed() < PATIENCE, "the place is not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn browsers_that_go_away_while_a_page_is_made_do_no_harm() {
    let app = App::start();
    (0..20).for_each(|n| app.add(&format!("todo {n}")));
    for n in 0..150 {
        app.server.leave_after(Duration::from_micros(n * 25));
    }
    assert!(app.page().contains("todo 19"));
    // That the server did not panic is seen when it is dropped.
}

#[test]
fn a_killed_server_has_lost_nothing() {
    let App { data, server } = App::start();
    server.form("add_todo", &[("text", "one")]);
    server.form("add_todo", &[("text", "two")]);
    server.form("toggle_todo", &[("id", "2")]);
    server.form("delete_todo", &[("id", "1")]);
    let before = server.get("/").body;
    server.kill();

    let server = Server::start(data.path(), Path::new("no program"));
    let after = server.get("/").body;
    assert!(after.contains("two") && !after.contains(">one") && after.contains("aria-checked=\"true\""));
    assert_eq!(numbers(&after), numbers(&before));
    server.form("add_todo", &[("text", "three")]);
    let todos = server.call("get_todos", "").body;
    assert!(todos.contains("\"id\":3"), "numbers are never given twice: {todos}");
}

#[test]
fn a_second_server_on_the_same_folder_says_why_it_does_not_start() {
    let app = App::start();
    let second = command(app.data.path(), Path::new("no program")).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another writer holds the lock"), "{said}");
}

#[test]
fn who_listens_hears_the_version_and_each_new_one() {
    let app = App::start();
    app.add("one");
    let mut changes = app.server.changes();
    let mut next = || loop {
        let mut line = String::new();
        assert!(changes.read_line(&mut line).unwrap() > 0, "the server has ended the stream");
        if let Some(version) = line.strip_prefix("data:") {
            return version.trim().parse::<u64>().unwrap();
        }
    };
    assert_eq!(next(), 1);
    app.server.form("toggle_todo", &[("id", "1")]);
    assert_eq!(next(), 2);
    app.server.form("toggle_todo", &[("id", "9")]);
    app.server.form("delete_todo", &[("id", "1")]);
    assert_eq!(next(), 3);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_end_does_although_somebody_listens_and_keeps_its_states() {
    let App { data, server } = App::start();
    server.form("add_todo", &[("text", "one")]);
    let mut changes = server.changes();
    changes.read_line(&mut String::new()).unwrap();
    server.terminate();
    for view in ["todos", "stats"] {
        let snapshot = data.path().join("views").join(format!("{view}.snapshot.json"));
        let snapshot: serde_json::Value = serde_json::from_slice(&std::fs::read(snapshot).unwrap()).unwrap();
        assert!(snapshot["state"].is_object(), "{view}: {snapshot}");
    }
}

#[cfg(unix)]
#[test]
fn a_request_that_never_comes_to_its_end_does_not_keep_the_server() {
    let App { data, server } = App::start();
    server.form("add_todo", &[("text", "one")]);
    let connection = server.begin_request();
    // So that the server has it.
    server.get("/");
    server.terminate();
    drop(connection);
    assert!(data.path().join("views/todos.snapshot.json").exists());
}
