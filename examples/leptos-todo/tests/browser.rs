//! The application in a real browser: Chromium without a window, driven by chromedriver. Without the browser's program first; with
//! it, too, where `bundle` has made it. Where Chromium or chromedriver is missing it says so and tests nothing.

mod support;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use support::{PATIENCE, Server};
use tempfile::TempDir;
use url::{ParseError, Url};

/// Between two looks at a page.
const PAUSE: Duration = Duration::from_millis(30);

/// chromedriver on a free port. Killed when it is dropped.
struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    /// Says what is missing.
    fn start() -> Result<Self, String> {
        let browser = ["chromium", "chromium-browser", "google-chrome"].iter().find(|name| is_there(name));
        browser.ok_or("Chromium is not installed (apt-get install chromium)")?;
        let process = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut process =
            process.map_err(|error| format!("chromedriver: {error} (apt-get install chromium-driver)"))?;
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut driver = Self { process, port: 0 };
        for line in output.lines().map_while(Result::ok) {
            // "ChromeDriver was started successfully on port 41799."
            let port = line.split_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.'));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                driver.port = port;
                return Ok(driver);
            }
        }
        Err("chromedriver did not start".to_owned())
    }

    async fn browser(&self, profile: &Path) -> Client {
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=900,1000",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let Value::Object(capabilities) = json!({
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "SEVERE"},
        }) else {
            unreachable!()
        };
        let capabilities: Capabilities = capabilities.into_iter().collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let address = format!("http://127.0.0.1:{}", self.port);
        builder.capabilities(capabilities).connect(&address).await.unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// What the browser's console has of programs that failed, and of scripts and styles that were not allowed. An answer that refuses
/// something, or does not come from a server that was killed, is there, too, and is none.
async fn mistakes(browser: &Client) -> Vec<Value> {
    /// A command of chromedriver's own.
    #[derive(Debug)]
    struct Log;
    impl WebDriverCompatibleCommand for Log {
        fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
            base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
        }
        fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
            (Method::POST, Some(json!({"type": "browser"}).to_string()))
        }
    }
    let log = browser.issue_cmd(Log).await.unwrap();
    log.as_array().unwrap().iter().filter(|entry| entry["source"] != "network").cloned().collect()
}

/// A window of the browser.
struct Page<'a>(&'a Client);

impl Page<'_> {
    async fn value(&self, expression: &str) -> Value {
        self.0.execute(&format!("return {expression}"), vec![]).await.unwrap()
    }

    /// Waits until an expression has a value. While a page is replaced by another there may be none.
    async fn wait(&self, expression: &str, expected: Value) {
        let begin = Instant::now();
        loop {
            let found = self.0.execute(&format!("return {expression}"), vec![]).await;
            if matches!(&found, Ok(found) if *found == expected) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{expression} is {found:?}, not {expected}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn wait_for_texts(&self, texts: &[&str]) {
        self.wait(
            "[...document.querySelectorAll('.todo .text')].map(text => text.textContent)",
            json!(texts),
        )
        .await;
    }

    async fn wait_for_ticks(&self, ticks: &[bool]) {
        let boxes = "[...document.querySelectorAll('.todo .box')].map(box => box.ariaChecked === 'true')";
        self.wait(boxes, json!(ticks)).await;
    }

    async fn wait_for_stats(&self, stats: &[&str]) {
        self.wait("[...document.querySelectorAll('.stats dd')].map(dd => dd.textContent)", json!(stats))
            .await;
    }

    /// Does something to an element. The page may put another in its place between finding and doing; then nothing was done.
    async fn with(&self, selector: &str, action: impl AsyncFn(Element) -> Result<(), CmdError>) {
        let begin = Instant::now();
        loop {
            let done = match self.0.find(Locator::Css(selector)).await {
                Ok(element) => action(element).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => return,
                Err(error) if error.is_stale_element_reference() || error.is_no_such_element() => {
                    assert!(begin.elapsed() < PATIENCE, "{selector}: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => panic!("{selector}: {error}"),
            }
        }
    }

    async fn click(&self, selector: &str) {
        self.with(selector, async |element| element.click().await).await;
    }

    async fn add(&self, text: &str) {
        self.with("#text", async |input| {
            input.clear().await?;
            input.send_keys(text).await
        })
        .await;
        self.click(".add .primary").await;
    }

    /// Makes a mark that is gone when the page is loaded again.
    async fn mark(&self) {
        self.execute("window.isSamePage = true").await;
    }

    async fn execute(&self, script: &str) {
        self.0.execute(script, vec![]).await.unwrap();
    }

    async fn is_same_page(&self) -> bool {
        self.value("window.isSamePage === true").await == json!(true)
    }
}

#[test]
fn forms_work_and_a_second_window_sees_changes() {
    run(Path::new("no program"));
}

#[test]
fn the_browsers_program_takes_the_page_over() {
    let pkg = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg");
    if pkg.join("leptos_todo_bg.wasm").exists() {
        run(&pkg);
    } else {
        skipped("there is no program for the browser (cargo run -p bundle)");
    }
}

/// Says so where it is seen: what `println!` writes is kept back of tests that pass.
fn skipped(why: &str) {
    let mut output = std::io::stderr().lock();
    writeln!(output, "SKIPPED: {why}").unwrap();
}

fn run(pkg: &Path) {
    let driver = match Driver::start() {
        Ok(driver) => driver,
        Err(why) => {
            skipped(&why);
            return;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let profile = TempDir::new().unwrap();
        let browser = driver.browser(profile.path()).await;
        use_the_list(&browser, pkg).await;
        let mistakes = mistakes(&browser).await;
        browser.close().await.unwrap();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    });
}

async fn use_the_list(browser: &Client, pkg: &Path) {
    let has_program = pkg.exists();
    let data = TempDir::new().unwrap();
    let server = Server::start(data.path(), pkg);
    let address = format!("http://{}/", server.address);
    let page = Page(browser);
    let open = async || {
        browser.goto(&address).await.unwrap();
        page.wait("'program' in document.documentElement.dataset", json!(has_program)).await;
        if has_program {
            page.wait("'alive' in document.documentElement.dataset", json!(true)).await;
        }
    };
    open().await;
    page.wait_for_texts(&[]).await;
    page.mark().await;

    page.add("buy milk").await;
    page.wait_for_texts(&["buy milk"]).await;
    page.wait("document.getElementById('text').value", json!("")).await;
    page.add("write docs").await;
    page.wait_for_texts(&["buy milk", "write docs"]).await;
    page.click("#toggle-1").await;
    page.wait_for_ticks(&[true, false]).await;
    page.wait_for_stats(&["2", "1", "0", "50%"]).await;
    page.wait(
        "getComputedStyle(document.querySelector('.done .text')).textDecorationLine",
        json!("line-through"),
    )
    .await;
    assert_eq!(page.is_same_page().await, has_program, "with its program the page is not loaded again");

    // Nothing, and what would be markup.
    page.add("   ").await;
    page.wait("document.getElementById('message').textContent", json!("Please write what there is to do."))
        .await;
    let hostile = "<img src=x onerror='window.isHarmed = true'>";
    page.add(hostile).await;
    page.wait_for_texts(&["buy milk", "write docs", hostile]).await;
    page.wait("document.getElementById('message').textContent", json!("")).await;
    assert_eq!(page.value("document.querySelectorAll('.todos img').length").await, json!(0));
    assert_eq!(page.value("window.isHarmed === undefined").await, json!(true));

    open().await;
    page.wait_for_texts(&["buy milk", "write docs", hostile]).await;
    page.wait_for_ticks(&[true, false, false]).await;
    page.click("#delete-3").await;
    page.wait_for_texts(&["buy milk", "write docs"]).await;
    page.wait_for_stats(&["3", "1", "1", "33%"]).await;

    // A second window. What is done in one is seen in the other, which is not loaded again.
    page.mark().await;
    let first = browser.window().await.unwrap();
    let second = browser.new_window(false).await.unwrap().handle;
    browser.switch_to_window(second.clone()).await.unwrap();
    open().await;
    page.mark().await;
    page.wait_for_texts(&["buy milk", "write docs"]).await;
    browser.switch_to_window(first).await.unwrap();
    page.add("seen at once").await;
    page.wait_for_texts(&["buy milk", "write docs", "seen at once"]).await;
    browser.switch_to_window(second.clone()).await.unwrap();
    page.wait_for_texts(&["buy milk", "write docs", "seen at once"]).await;
    page.wait_for_stats(&["4", "1", "1", "25%"]).await;
    assert!(page.is_same_page().await, "it was not loaded again");
    // And by whoever does it; in a tab of the same window, too.
    let tab = browser.new_window(true).await.unwrap().handle;
    browser.switch_to_window(tab).await.unwrap();
    open().await;
    page.mark().await;
    page.wait_for_ticks(&[true, false, false]).await;
    server.form("toggle_todo", &[("id", "2")]);
    page.wait_for_ticks(&[true, true, false]).await;
    assert!(page.is_same_page().await, "it was not loaded again");
    browser.close_window().await.unwrap();
    browser.switch_to_window(second).await.unwrap();
    page.wait_for_ticks(&[true, true, false]).await;
    assert!(page.is_same_page().await, "it was not loaded again");

    // What does not come at once comes later.
    page.execute(
        "const fetch = window.fetch;
         window.fetch = () => { window.fetch = fetch; return Promise.reject(new TypeError('lost')); }",
    )
    .await;
    server.form("toggle_todo", &[("id", "1")]);
    page.wait_for_ticks(&[false, true, false]).await;
    page.wait_for_stats(&["4", "1", "1", "25%"]).await;
    server.form("toggle_todo", &[("id", "1")]);
    page.wait_for_ticks(&[true, true, false]).await;
    assert!(page.is_same_page().await, "it was not loaded again");

    // Killed, and started again with what it had.
    server.kill();
    let server = Server::start(data.path(), pkg);
    let address = format!("http://{}/", server.address);
    browser.goto(&address).await.unwrap();
    page.wait_for_texts(&["buy milk", "write docs", "seen at once"]).await;
    page.wait_for_ticks(&[true, true, false]).await;
    page.wait_for_stats(&["4", "2", "1", "50%"]).await;
}
