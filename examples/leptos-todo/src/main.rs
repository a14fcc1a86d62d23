//! The server: `leptos-todo [--addr 127.0.0.1:3000] [--host NAME]… [--data ./data] [--pkg ./pkg]`.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use leptos_todo::guard::Names;
use leptos_todo::server::{Program, router};
use leptos_todo::store::Store;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const HELP: &str = "\
A to-do list in the browser whose only storage is an event log.

leptos-todo [--addr ADDRESS] [--host NAME]... [--data FOLDER] [--pkg FOLDER]

--addr ADDRESS  where to listen (LEPTOS_TODO_ADDR, else 127.0.0.1:3000); port 0 takes a free one
--host NAME     a name by which the server is called besides localhost and its address; may be given again
                (LEPTOS_TODO_HOST, names with commas between)
--data FOLDER   where the log is (LEPTOS_TODO_DATA, else ./data); created if it is not there
--pkg FOLDER    where `bundle` put the program for the browser (LEPTOS_TODO_PKG, else ./pkg)";

/// How long requests may still take when the server is asked to end.
const PATIENCE: Duration = Duration::from_secs(5);

struct Settings {
    addr: String,
    hosts: Vec<String>,
    data: PathBuf,
    pkg: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match settings(env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match serve(settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if help is wanted. An argument wins over the environment.
fn settings(mut args: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
    let default = |name: &str, value: &str| env::var(name).unwrap_or_else(|_| value.to_owned());
    let mut settings = Settings {
        addr: default("LEPTOS_TODO_ADDR", "127.0.0.1:3000"),
        hosts: Vec::new(),
        data: default("LEPTOS_TODO_DATA", "data").into(),
        pkg: default("LEPTOS_TODO_PKG", "pkg").into(),
    };
    while let Some(name) = args.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--addr" => settings.addr = value()?,
            "--host" => settings.hosts.push(value()?),
            "--data" => settings.data = value()?.into(),
            "--pkg" => settings.pkg = value()?.into(),
            _ => return Err(format!("{name} is not known")),
        }
    }
    if settings.hosts.is_empty() {
        let names = default("LEPTOS_TODO_HOST", "");
        settings.hosts = names.split(',').map(|name| name.trim().to_owned()).collect();
    }
    Ok(Some(settings))
}

async fn serve(Settings { addr, hosts, data, pkg }: Settings) -> Result<(), Box<dyn Error>> {
    let store = Store::open(&data)
        .map_err(|error| format!("the log in {} was not opened: {error}", data.display()))?;
    let program = Program::read(&pkg);
    let listener =
        TcpListener::bind(&addr).await.map_err(|error| format!("cannot listen at {addr}: {error}"))?;
    println!("the to-dos are in {}", data.display());
    if program.is_none() {
        println!(
            "note: no program for the browser in {}; the page works by plain forms and live update \
             (to make it: cargo run -p bundle)",
            pkg.display()
        );
    }
    println!("listening on http://{}", listener.local_addr()?);

    let (is_ending, ending) = oneshot::channel();
    let end = {
        let store = store.clone();
        async move {
            asked_to_end().await;
            // Else those who listen for changes would keep their connections, and the server with them.
            store.end();
            // The other end is gone only where the server is, too.
            is_ending.send(()).ok();
        }
    };
    let server = axum::serve(listener, router(store, program, Names::new(hosts))).with_graceful_shutdown(end);
    tokio::select! {
        done = server.into_future() => done?,
        // Who asks twice does not want to wait for slow requests, and a request that never comes to its end must not keep the server.
        // The log needs no closing.
        () = async {
            ending.await.ok();
            tokio::time::timeout(PATIENCE, asked_to_end()).await.ok();
        } => {}
    }
    Ok(())
}

/// Waits for Ctrl-C, or for the signal by which services are ended.
async fn asked_to_end() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
