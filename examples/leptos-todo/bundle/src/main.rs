//! Makes the part of leptos-todo that runs in the browser: compiles it for `wasm32-unknown-unknown` and writes what a browser can load
//! into the folder `pkg`.
//!
//! `cargo run -p bundle`, with `-- --dev` behind it for one that compiles quickly and is large. It is a package of its own, so that
//! it does not compile the application for this machine first.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";

fn main() -> Result<(), Box<dyn Error>> {
    let is_dev = env::args().skip(1).any(|arg| arg == "--dev");
    let profile = if is_dev { "dev" } else { "browser" };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("it lies in no folder")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| package.join("target"), PathBuf::from);
    let target = std::path::absolute(target)?;

    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--lib",
            "--package",
            "leptos-todo",
            "--locked",
            "--target",
            TARGET,
            "--profile",
            profile,
        ])
        .args(["--no-default-features", "--features", "hydrate", "--target-dir"])
        .arg(&target)
        .current_dir(package)
        .status()?;
    if !built.success() {
        return Err(format!("it did not compile; is its library there? (rustup target add {TARGET})").into());
    }

    let folder = if is_dev { "debug" } else { "browser" };
    let wasm = target.join(TARGET).join(folder).join("leptos_todo.wasm");
    let pkg = package.join("pkg");
    Bindgen::new().input_path(&wasm).web(true)?.typescript(false).generate(&pkg)?;
    let bytes = std::fs::metadata(pkg.join("leptos_todo_bg.wasm"))?.len();
    println!("{}: {} KiB", pkg.display(), bytes / 1024);
    Ok(())
}
