//! Holds documents to the code. The block of constants in `docs/format.md` is what the sources of the format say, so that
//! none changes on disk without its document; and every Rust block of the repository's documents stands in the README of
//! this crate, whose blocks are doctests.
//!
//! Both look at the repository; in a package of this crate alone there is nothing to compare.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Files whose constants are what a reader of the format needs, by folder or file, from the root of the repository.
const SOURCES: [&str; 7] = [
    "keplordb/src/format",
    "keplordb/src/kernels/mod.rs",
    "keplordb/src/schema.rs",
    "keplordb/src/storage/directory.rs",
    "keplordb/src/sums.rs",
    "keplordb/src/time.rs",
    "keplordb-log/src/frame.rs",
];
/// Documents that may show Rust.
const DOCUMENTS: [&str; 10] = [
    "README.md",
    "PRODUCTION.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs",
    "keplordb/README.md",
    "keplordb-fold/README.md",
    "keplordb-log/README.md",
    "keplordb-macros/README.md",
];
const BLOCK_BEGINS: &str =
    "<!-- constants: keplordb/tests/layout.rs compares this block with the sources -->\n```text\n";
const BLOCK_ENDS: &str = "```\n<!-- end of constants -->";

/// The root of the repository; `None` in a package of this crate alone.
fn repository() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_owned();
    root.join("keplordb-log/Cargo.toml").exists().then_some(root)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of this ending in a folder, or the file itself.
fn files(path: &Path, ending: &str) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|found| found == ending);
    paths.into_iter().filter(wanted).flat_map(|path| files(&path, ending)).collect()
}

/// The constants and the numbered tags of a source, without its tests: `NAME: TYPE = VALUE` and `ENUM::NAME = NUMBER`.
fn constants(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut of_enum = "";
    let code = source.split("\nmod tests {").next().unwrap_or_default();
    for line in code.lines() {
        let line = line.split(" //").next().unwrap_or_default().trim();
        let item =
            ["pub(crate) ", "pub(super) ", "pub "].into_iter().find_map(|seen| line.strip_prefix(seen));
        let item = item.unwrap_or(line);
        if let Some(constant) = item.strip_prefix("const ").filter(|constant| !constant.starts_with("fn ")) {
            // A list of many lines repeats what has a name of its own; a sentence is for people.
            let is_sentence = constant.split_once('"').is_some_and(|(_, text)| text.contains(' '));
            found.extend(constant.strip_suffix(';').filter(|_| !is_sentence).map(str::to_owned));
        } else if let Some(head) = item.strip_prefix("enum ") {
            of_enum = head.split([' ', '<']).next().unwrap_or_default();
        } else if let Some((name, number)) = item.strip_suffix(',').and_then(|tag| tag.split_once(" = "))
            && name.chars().all(char::is_alphanumeric)
            && number.bytes().all(|digit| digit.is_ascii_digit())
        {
            found.push(format!("{of_enum}::{name} = {number}"));
        }
    }
    found
}

#[test]
fn the_documented_constants_are_those_of_the_sources() {
    let Some(root) = repository() else { return };
    let mut block = String::new();
    for path in SOURCES.iter().flat_map(|path| files(&root.join(path), "rs")) {
        let found = constants(&read(&path));
        if !found.is_empty() {
            writeln!(block, "{}", path.strip_prefix(&root).unwrap().display()).unwrap();
            for constant in found {
                writeln!(block, "    {constant}").unwrap();
            }
        }
    }
    let document = read(&root.join("docs/format.md"));
    let (_, rest) = document.split_once(BLOCK_BEGINS).expect("docs/format.md has the block");
    let (documented, _) = rest.split_once(BLOCK_ENDS).expect("the block in docs/format.md ends");
    assert!(
        documented == block,
        "docs/format.md does not list the constants of the sources, which are\n{block}"
    );
}

#[test]
fn constants_and_tags_are_found_and_tests_are_not() {
    let source = "pub(crate) const A: u32 = 1 << 4;\nconst B: Magic = Magic(*b\"x\");\npub const C: u8 = 2; // why\nconst E: &str = \"a sentence\";\n\
                  const fn f() {}\npub enum Kind {\n    One = 1,\n    let x = 3;\n}\n#[cfg(test)]\nmod tests {\n    const D: u8 = 3;\n";
    let wanted = ["A: u32 = 1 << 4", "B: Magic = Magic(*b\"x\")", "C: u8 = 2", "Kind::One = 1"];
    assert_eq!(constants(source), wanted);
}

/// The Rust blocks of a document.
fn rust_blocks(document: &str) -> Vec<&str> {
    let fenced = document.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix("rust")?.split_once('\n').map(|(_, code)| code)).collect()
}

#[test]
fn every_rust_block_of_the_documents_is_compiled() {
    let Some(root) = repository() else { return };
    // Documents that a library includes as its own, for `cargo test --doc`.
    let included: Vec<String> = ["keplordb/src/lib.rs", "keplordb-fold/src/lib.rs", "examples/src/lib.rs"]
        .iter()
        .flat_map(|library| {
            let source = read(&root.join(library));
            let folder = root.join(library).parent().map(Path::to_path_buf).unwrap_or_default();
            let names = source.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            names
                .filter(|name| Path::new(name).extension() == Some("md".as_ref()))
                .map(|name| read(&folder.join(name)))
                .collect::<Vec<_>>()
        })
        .collect();
    let programs: Vec<String> =
        files(&root.join("keplordb-sql/examples"), "rs").iter().map(|path| read(path)).collect();
    let tested: Vec<&str> = included.iter().flat_map(|document| rust_blocks(document)).collect();
    assert!(tested.len() >= 3, "the READMEs and the tour of queries have their programs");
    for path in DOCUMENTS.iter().flat_map(|path| files(&root.join(path), "md")) {
        let document = read(&path);
        for block in rust_blocks(&document) {
            let is_compiled =
                tested.contains(&block) || programs.iter().any(|program| program.contains(block));
            assert!(is_compiled, "{}: neither a doctest nor a part of an example\n{block}", path.display());
        }
    }
    assert!(!rust_blocks(&read(&root.join("README.md"))).is_empty(), "README.md shows the example");
}
