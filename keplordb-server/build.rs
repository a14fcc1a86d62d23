//! Makes the code of the protocol from `proto/`, and its descriptors for reflection.

use std::path::Path;
use std::{env, error::Error, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["capture.proto", "capture_v2.proto"], ["proto"])?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    #[allow(clippy::disallowed_methods, reason = "what a build makes is nobody's data")]
    fs::write(Path::new(&out).join("capture.binpb"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
