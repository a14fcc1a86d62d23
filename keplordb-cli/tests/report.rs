//! `keplor report`, run as a process on real tables. Its pages are read by a strict XML parser, so whatever an event's text might
//! break is seen, and their numbers are compared with those of the events that were written. Where Chromium is installed a page is
//! also opened in it, in light and in dark; where it is not, the test says so and tests nothing.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use keplordb::any::{AnyEvent, AnyStore};
use keplordb::{EngineConfig, Options, TableSchema};
use roxmltree::{Document, Node, ParsingOptions};
use tempfile::TempDir;

const HOUR_NS: i64 = 3_600_000_000_000;
/// 2026-02-01T00:00:00Z.
const BEGIN_NS: i64 = 1_769_904_000_000_000_000;

fn keplor<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keplor"));
    command.arg("report").args(arguments).stdin(Stdio::null());
    command
}

/// Standard output of a command that must have done what it was asked.
fn done(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error of a command that must have failed.
fn refused(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{error}");
    error.into_owned()
}

/// The page of a table, on standard output.
fn page(dir: &Path, arguments: &[&str]) -> String {
    done(&keplor([dir.as_os_str(), "-o".as_ref(), "-".as_ref()]).args(arguments).output().unwrap())
}

/// A table in a folder of its own, whose segments stay as they were flushed.
fn table(schema: TableSchema) -> (TempDir, PathBuf, AnyStore) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("calls.db");
    let options = Options::default().schema(schema).merge_rows(0);
    let store = AnyStore::open_with(EngineConfig::in_dir(&dir), options).unwrap();
    (temporary, dir, store)
}

/// A hundred calls, one an hour, in two segments, and ten more in the log.
fn calls() -> (TempDir, PathBuf) {
    let (temporary, dir, store) =
        table(TableSchema::new(1).dim("model").dim("user").counter("tokens").counter("cached"));
    for call in 0..110_i64 {
        store.append(the_call(&store, call)).unwrap();
        if call == 39 || call == 99 {
            store.flush().unwrap();
        }
    }
    store.close().unwrap();
    (temporary, dir)
}

fn the_call(store: &AnyStore, call: i64) -> AnyEvent {
    let status = if call % 10 == 3 { 500 } else { 200 };
    let event =
        store.event(BEGIN_NS + call * HOUR_NS).set("model", if call % 4 == 0 { "large" } else { "small" });
    let event = event.unwrap().set("user", format!("user-{:02}", call % 22)).unwrap();
    event
        .set("tokens", 1_000 + call)
        .unwrap()
        .set("latency_ms", call + 1)
        .unwrap()
        .set("status", status)
        .unwrap()
}

/// A page, read strictly.
fn read(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|error| panic!("{error}:\n{page}"))
}

/// All text in an element, without the spaces around it, and with plain ones for those that do not break.
fn text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text).filter_map(|node| node.text());
    texts.collect::<String>().replace('\u{a0}', " ").trim().to_owned()
}

fn with<'a, 'd>(node: Node<'a, 'd>, attribute: &str, value: &str) -> Vec<Node<'a, 'd>> {
    node.descendants().filter(|node| node.attribute(attribute) == Some(value)).collect()
}

fn elements<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Vec<Node<'a, 'd>> {
    node.descendants().filter(|node| node.has_tag_name(name)).collect()
}

/// The figures of the head, by their names.
fn figures(document: &Document<'_>) -> Vec<(String, String)> {
    let list = with(document.root(), "class", "figures")[0];
    let texts = |name| elements(list, name).into_iter().map(text);
    texts("dt").zip(texts("dd")).collect()
}

fn figure(document: &Document<'_>, name: &str) -> String {
    let figures = figures(document);
    figures
        .iter()
        .find(|(found, _)| found == name)
        .unwrap_or_else(|| panic!("{name} in {figures:?}"))
        .1
        .clone()
}

/// The rows of a table, found by what it is called.
fn rows(document: &Document<'_>, label: &str) -> Vec<Vec<String>> {
    let found = with(document.root(), "aria-label", label);
    let table = *found
        .iter()
        .find(|node| !elements(**node, "tr").is_empty())
        .unwrap_or_else(|| panic!("no table {label}"));
    let rows = elements(table, "tr").into_iter();
    rows.map(|row| row.children().filter(Node::is_element).map(text).collect()).collect()
}

fn row(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn headings(document: &Document<'_>) -> Vec<String> {
    elements(document.root(), "h2").into_iter().map(text).collect()
}

#[test]
fn a_page_has_the_numbers_of_its_table() {
    let (_temporary, dir) = calls();
    let page = page(&dir, &["--top", "3"]);
    let document = read(&page);

    assert_eq!(text(elements(document.root(), "title")[0]), "calls.db");
    assert_eq!(text(elements(document.root(), "h1")[0]), "calls.db");
    assert_eq!(headings(&document), ["Events over time", "Top values", "Latency", "Sums", "Segments"]);
    assert_eq!(figure(&document, "Events"), "110");
    assert_eq!(figure(&document, "First event"), "1 Feb 2026 00:00:00 UTC");
    assert_eq!(figure(&document, "Last event"), "5 Feb 2026 13:00:00 UTC");
    assert_eq!(figure(&document, "Segments"), "2 and 10 events in logs");

    let models = rows(&document, "Top values of model");
    assert_eq!(models, [row(&["small", "", "82", "74.5 %"]), row(&["large", "", "28", "25.5 %"])]);
    let users = rows(&document, "Top values of user");
    assert_eq!(users[0], row(&["user-00", "", "5", "4.5 %"]));
    assert_eq!(users[3..], [row(&["… and 19 others", "95", "86.4 %"])]);
    let statuses = rows(&document, "Top values of status");
    assert_eq!(statuses, [row(&["200", "", "99", "90.0 %"]), row(&["500", "", "11", "10.0 %"])]);

    // 109 hours in bars of one hour.
    let events = rows(&document, "Events over time");
    assert_eq!(events[0], row(&["From", "Events", "2xx", "5xx"]));
    assert_eq!(events.len(), 1 + 110);
    assert_eq!(events[1], row(&["2026-02-01 00:00", "1", "1", "0"]));
    assert_eq!(events[1 + 3], row(&["2026-02-01 03:00", "1", "0", "1"]));
    let sums = rows(&document, "Sums over time");
    assert_eq!(
        (sums[0].clone(), sums[110].clone()),
        (row(&["From", "tokens"]), row(&["2026-02-05 13:00", "1,109"]))
    );
    assert!(page.contains("In cached there is nothing."));

    let section = with(document.root(), "aria-labelledby", "latency")[0];
    let legend: Vec<String> = elements(section, "li").into_iter().map(text).collect();
    assert_eq!(legend, ["p5055 ms", "p9099 ms", "p99109 ms", "max110 ms"]);
    let latency = rows(&document, "Latency over time");
    assert_eq!(latency[110], row(&["2026-02-05 13:00", "110 ms", "110 ms", "110 ms", "110 ms"]));

    let section = with(document.root(), "aria-labelledby", "sums")[0];
    let sum: i64 = (0..110).map(|call| 1_000 + call).sum();
    assert_eq!((sum, text(with(section, "class", "sum")[0])), (115_995, "115,995".to_owned()));
    let of_each: Vec<String> = elements(section, "dd").into_iter().map(text).collect();
    assert_eq!(of_each, ["1,054.50", "1,000", "1,109"]);

    let segments = rows(&document, "Segments");
    assert_eq!(segments.len(), 3);
    assert_eq!(segments[1][..3], row(&["2026-02-01 00:00:00", "2026-02-02 15:00:00", "40"]));
    assert_eq!(segments[2][..3], row(&["2026-02-02 16:00:00", "2026-02-05 03:00:00", "60"]));
    let mut sizes: Vec<u64> = fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .collect();
    sizes.sort_unstable();
    for (row, size) in segments[1..].iter().zip(sizes) {
        let shown: f64 = row[3].strip_suffix(" kB").unwrap().parse().unwrap();
        assert!((shown * 1_000.0 / size as f64 - 1.0).abs() < 0.006, "{} of {size} bytes", row[3]);
    }
}

#[test]
fn charts_have_names_and_tables() {
    let (_temporary, dir) = calls();
    let page = page(&dir, &[]);
    let document = read(&page);
    let drawings = elements(document.root(), "svg");
    // Events, latency, a sum, and rows and bytes of segments.
    assert_eq!(drawings.len(), 5);
    for drawing in drawings {
        assert_eq!(drawing.attribute("role"), Some("img"));
        assert!(drawing.attribute("aria-label").is_some_and(|label| label.len() > 20), "{drawing:?}");
    }
    assert_eq!(elements(document.root(), "details").len(), 4);
    // Names that others refer to are there, and once.
    for section in elements(document.root(), "section") {
        let id = section.attribute("aria-labelledby").unwrap();
        assert_eq!(with(document.root(), "id", id).len(), 1, "{id}");
    }
}

#[test]
fn a_page_needs_nothing_else_and_runs_nothing() {
    let (_temporary, dir) = calls();
    let page = page(&dir, &[]);
    let document = read(&page);
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    for name in ["script", "link", "img", "iframe", "object", "image", "use", "a", "form"] {
        assert!(elements(document.root(), name).is_empty(), "{name}");
    }
    for node in document.descendants() {
        for attribute in node.attributes() {
            let name = attribute.name();
            assert!(
                !name.starts_with("on") && !["src", "href", "srcset", "action"].contains(&name),
                "{name}"
            );
        }
    }
    let policy = with(document.root(), "http-equiv", "Content-Security-Policy");
    assert!(policy[0].attribute("content").unwrap().starts_with("default-src 'none'"));
}

/// Texts that would do something if they were not escaped.
fn hostile() -> Vec<String> {
    vec![
        "<script>document.title='taken'</script>".to_owned(),
        "\"><img src=x onerror=\"document.title='taken'\">".to_owned(),
        "' onmouseover='document.title=1' x='".to_owned(),
        "</title></style></bdi><svg onload=document.title=1>".to_owned(),
        "]]>&lt;&amp;&#0;&unknown; <!-- <?xml --> ${7*7}".to_owned(),
        "\0\u{1}\u{1b}[2J\u{7f}\u{85}\r\n\t".to_owned(),
        "\u{202e}gpj.exe\u{2066}\u{200f}".to_owned(),
        "\u{ffff}\u{fffe}\u{feff}\u{1fffe}".to_owned(),
        "שלום עולם مرحبا بالعالم".to_owned(),
        "x".repeat(10_000),
        "<b>".repeat(3_400),
        String::new(),
    ]
}

#[test]
fn texts_of_events_and_schemas_stay_texts() {
    let names = hostile();
    let mut schema = TableSchema::new(1).dim("<script>alert(1)</script>").dim("a\"b'c&d");
    schema = schema.counter("</h3><h3>\u{202e}\0");
    let (_temporary, dir, store) = table(schema);
    for (place, name) in names.iter().enumerate() {
        let event =
            store.event(BEGIN_NS + place as i64 * HOUR_NS).set("<script>alert(1)</script>", name.as_str());
        let event = event.unwrap().set("a\"b'c&d", name.as_str()).unwrap();
        store.append(event.set("</h3><h3>\u{202e}\0", 7).unwrap()).unwrap();
    }
    store.close().unwrap();
    let title = "</title><script>alert('title')</script>";
    let condition = "a\"b'c&d!=<script>alert('condition')</script>";
    let page = page(&dir, &["--top", "20", "--title", title, "-w", condition]);

    let document = read(&page);
    assert_eq!(text(elements(document.root(), "title")[0]), title);
    assert_eq!(elements(document.root(), "script").len() + elements(document.root(), "img").len(), 0);
    assert!(page.chars().all(|letter| !letter.is_control() || letter == '\n'));
    assert!(!page.contains(['\u{202e}', '\u{2066}', '\u{ffff}', '\u{fffe}']));
    assert_eq!(elements(document.root(), "h3").len(), 3);

    let shown = rows(&document, "Top values of <script>alert(1)</script>");
    assert_eq!(shown.len(), names.len());
    let shown: Vec<&str> = shown.iter().map(|row| row[0].as_str()).collect();
    for wanted in [
        names[0].as_str(),
        "' onmouseover='document.title=1' x='",
        "\\u{0}\\u{1}\\u{1b}[2J\\u{7f}\\u{85}\\u{d}\\u{a}\\u{9}",
        "\\u{202e}gpj.exe\\u{2066}\\u{200f}",
        "\\u{ffff}\\u{fffe}\\u{feff}\\u{1fffe}",
        "שלום עולם مرحبا بالعالم",
        &format!("{}…", "x".repeat(60)),
        &format!("{}…", "<b>".repeat(20)),
        "(empty)",
    ] {
        assert!(shown.contains(&wanted), "{wanted:?} in {shown:?}");
    }
    // What was cut is whole in the title, and every text of an event is kept apart from the page's direction.
    let whole = with(document.root(), "title", &names[9]);
    assert!(whole.iter().all(|node| node.has_tag_name("bdi")) && whole.len() == 2, "{whole:?}");
}

#[test]
fn an_empty_table_has_a_page() {
    let (_temporary, dir, store) = table(TableSchema::new(1).dim("user").counter("tokens"));
    store.close().unwrap();
    let page = page(&dir, &[]);
    let document = read(&page);
    assert_eq!(headings(&document), ["Segments"]);
    assert_eq!(
        (figure(&document, "Events"), figure(&document, "Segments")),
        ("0".to_owned(), "0".to_owned())
    );
    assert!(page.contains("The table has no events.") && page.contains("There is no segment yet."));
    assert!(elements(document.root(), "svg").is_empty());
}

#[test]
fn one_event_has_a_page_without_charts() {
    let (_temporary, dir, store) = table(TableSchema::new(1).dim("user").counter("tokens"));
    store.append(the_event(&store)).unwrap();
    store.flush().unwrap();
    store.close().unwrap();
    let page = page(&dir, &[]);
    let document = read(&page);
    assert_eq!(headings(&document), ["Top values", "Latency", "Sums", "Segments"]);
    assert_eq!(figure(&document, "Events"), "1");
    assert_eq!(rows(&document, "Top values of user"), [row(&["alice", "", "1", "100 %"])]);
    assert!(page.replace('\u{a0}', " ").contains("1 event, on 1 February 2026 at 00:00:00 UTC."));
    assert!(page.replace('\u{a0}', " ").contains("One segment of 1 row and "));
    assert!(elements(document.root(), "svg").is_empty());
}

fn the_event(store: &AnyStore) -> AnyEvent {
    let event = store.event(BEGIN_NS).set("user", "alice").unwrap();
    event.set("tokens", 7).unwrap().set("latency_ms", 1_250).unwrap()
}

#[test]
fn times_at_the_ends_of_all_times_have_a_page() {
    for times in [vec![i64::MIN, i64::MAX], vec![i64::MIN], vec![i64::MAX - 1, i64::MAX], vec![0, 1]] {
        let (_temporary, dir, store) = table(TableSchema::new(1).dim("user"));
        for ts_ns in &times {
            store.append(store.event(*ts_ns).set("latency_ms", u32::MAX).unwrap()).unwrap();
        }
        store.flush().unwrap();
        store.close().unwrap();
        let page = page(&dir, &[]);
        assert_eq!(figure(&read(&page), "Events"), times.len().to_string(), "{times:?}");
    }
}

#[test]
fn conditions_choose_the_events_and_are_shown() {
    let (_temporary, dir) = calls();
    let some = page(&dir, &["-w", "model=large", "--from", "2026-02-02", "--title", "Large ones"]);
    let document = read(&some);
    // Of the hours 24 to 109 those that four divides.
    assert_eq!(figure(&document, "Events"), "22 of 110");
    assert_eq!(text(elements(document.root(), "h1")[0]), "Large ones");
    assert_eq!(rows(&document, "Top values of model"), [row(&["large", "", "22", "100 %"])]);
    let conditions = with(document.root(), "aria-label", "Conditions")[0];
    let conditions: Vec<String> = elements(conditions, "li").into_iter().map(text).collect();
    assert_eq!(conditions, ["model=large", "ts>=2026-02-02T00:00:00.000000000Z"]);
    assert!(
        some.replace('\u{a0}', " ")
            .contains("22 events of 110 match, from 2 February 2026 to 5 February 2026.")
    );

    let none = page(&dir, &["-w", "model=huge"]);
    let document = read(&none);
    assert_eq!(
        (figure(&document, "Events"), headings(&document)),
        ("0 of 110".to_owned(), vec!["Segments".to_owned()])
    );
    assert!(none.contains("No event of 110 matches."));
}

#[test]
fn a_page_is_made_beside_a_writer() {
    let (_temporary, dir, store) = table(TableSchema::new(1).dim("user").counter("tokens"));
    for call in 0..50 {
        let event = store.event(BEGIN_NS + call * HOUR_NS).set("user", "alice").unwrap();
        store.append_durable(event).unwrap();
        if call % 20 == 19 {
            store.flush().unwrap();
        }
    }
    let page = page(&dir, &[]);
    assert_eq!(figure(&read(&page), "Segments"), "2 and 10 events in logs");
    assert_eq!(figure(&read(&page), "Events"), "50");
    store.close().unwrap();
}

#[test]
fn files_are_whole_and_not_overwritten_unless_told() {
    let (temporary, dir) = calls();
    let here = temporary.path();
    let run =
        |arguments: &[&str]| keplor([dir.as_os_str()]).args(arguments).current_dir(here).output().unwrap();
    let names = || {
        let entries =
            fs::read_dir(here).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    };

    assert_eq!(done(&run(&[])), "");
    assert_eq!(names(), ["calls.db", "calls.db.html"]);
    let first = fs::read_to_string(here.join("calls.db.html")).unwrap();
    read(&first);
    let error = refused(&run(&[]));
    assert_eq!(
        error,
        "keplor: calls.db.html is there already; replace it with --force, or name another file with -o\n"
    );
    assert_eq!(fs::read_to_string(here.join("calls.db.html")).unwrap(), first);
    done(&run(&["--force", "--title", "Again"]));
    let second = fs::read_to_string(here.join("calls.db.html")).unwrap();
    assert!(second.contains("<title>Again</title>"));
    done(&run(&["-o", "other.html"]));
    assert_eq!(names(), ["calls.db", "calls.db.html", "other.html"]);

    // A directory is called what it is called, also from within.
    done(&keplor(["."]).current_dir(&dir).output().unwrap());
    assert!(fs::read_to_string(dir.join("calls.db.html")).unwrap().contains("<title>calls.db</title>"));

    let error = refused(&run(&["-o", "calls.db"]));
    assert_eq!(error, "keplor: calls.db is a directory; name a file in it\n");
    let error = refused(&run(&["-o", "no/page.html"]));
    assert_eq!(error, "keplor: there is no directory no to write no/page.html into\n");
    let error = refused(&keplor(["nowhere.db"]).current_dir(here).output().unwrap());
    assert!(error.starts_with("keplor: there is no directory nowhere.db"), "{error}");
    let error = refused(&run(&["-o", "third.html", "-w", "colour=red"]));
    assert!(error.starts_with("keplor: there is no column \"colour\""), "{error}");
    assert!(!here.join("third.html").exists());
}

/// Says so where it is seen: what `println!` writes is kept back of tests that pass.
fn skipped(why: &str) {
    let mut output = std::io::stderr().lock();
    writeln!(output, "SKIPPED: {why}").unwrap();
}

/// Chromium without a window, with a profile of its own.
struct Browser {
    program: &'static str,
    profile: TempDir,
}

impl Browser {
    fn find() -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            let found =
                Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        })?;
        Some(Self { program, profile: tempfile::tempdir().unwrap() })
    }

    /// Opens a page; what the program printed, and what its console said.
    fn open(&self, page: &Path, arguments: &[&str]) -> (String, Vec<String>) {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let output = Command::new(self.program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--enable-logging=stderr", "--hide-scrollbars", "--window-size=1100,1600", &profile])
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        let console = errors.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
        (String::from_utf8_lossy(&output.stdout).into_owned(), console)
    }

    /// A picture of the page, in the colours that a reader prefers.
    fn picture(&self, page: &Path, is_dark: bool) -> Vec<u8> {
        let file = self.profile.path().join(if is_dark { "dark.png" } else { "light.png" });
        // The enumeration of Blink: 0 is dark, 1 is light.
        let preferred = format!("--blink-settings=preferredColorScheme={}", u8::from(!is_dark));
        self.open(page, &[&preferred, &format!("--screenshot={}", file.display())]);
        fs::read(file).unwrap()
    }
}

#[test]
fn a_browser_shows_the_page_without_complaints_in_light_and_dark() {
    let Some(browser) = Browser::find() else {
        return skipped("Chromium is not installed (apt-get install chromium)");
    };
    let (temporary, dir, store) = table(TableSchema::new(1).dim("text").counter("tokens"));
    for (place, name) in hostile().iter().enumerate() {
        let event = store.event(BEGIN_NS + place as i64 * HOUR_NS).set("text", name.as_str()).unwrap();
        store.append(event.set("tokens", 5 + place as i64).unwrap().set("latency_ms", 7).unwrap()).unwrap();
    }
    store.flush().unwrap();
    store.close().unwrap();
    let file = temporary.path().join("page.html");
    done(&keplor([dir.as_os_str(), "-o".as_ref(), file.as_os_str()]).args(["--top", "20"]).output().unwrap());

    // What a policy forbids is heard: otherwise silence would say nothing.
    let control = temporary.path().join("control.html");
    let policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">";
    fs::write(&control, format!("{policy}<script>document.title = 'taken'</script>")).unwrap();
    let (_, console) = browser.open(&control, &["--dump-dom"]);
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:?}");

    let (dom, console) = browser.open(&file, &["--dump-dom"]);
    assert_eq!(console, Vec::<String>::new());
    assert!(
        dom.contains("<title>calls.db</title>") && dom.contains("&lt;script&gt;document.title='taken'"),
        "{dom}"
    );
    let (light, dark) = (browser.picture(&file, false), browser.picture(&file, true));
    for picture in [&light, &dark] {
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    }
    assert_ne!(light, dark);
}
