//! Holds the floors of the engine's modules: a file may name only modules of lower floors, or of its own folder; ground
//! files may name each other, but not in a circle. It walks `src/`, takes each `crate::name` outside comments, and says
//! file, line and which module may not use which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keplordb::disk::{Disk, RealDisk, read_all};

/// The floors, from the ground up, and their modules. A new module belongs on one of them.
const FLOORS: [(&str, &[&str]); 8] = [
    ("ground", &["error", "schema", "time", "event", "expr", "filter", "page", "config", "sums", "threads"]),
    ("kernels", &["kernels"]),
    ("format", &["format"]),
    ("storage", &["storage"]),
    ("state", &["state"]),
    ("read", &["read"]),
    ("engine", &["engine"]),
    (
        "facade",
        &[
            "aggregates",
            "columns",
            "groups",
            "internals",
            "project",
            "query",
            "maintenance",
            "raw",
            "reader",
            "serial",
            "step",
            "store",
            "tail",
            "values",
            "walk",
            "any",
            "lib",
        ],
    ),
];

/// A name after `crate::`.
#[derive(Debug, PartialEq)]
struct Use {
    line: usize,
    module: String,
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, modules)| modules.contains(&module))
}

/// The source without comments, string and character literals; lines keep their numbers.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if next == '"' {
            literal_bytes(rest, '"')
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|skipped| *skipped == '\n'));
        rest = &rest[skipped..];
    }
    code
}

/// The length of a literal that begins and ends with `quote`.
fn literal_bytes(source: &str, quote: char) -> usize {
    let mut escaped = false;
    for (place, next) in source.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            next if next == quote => return place + next.len_utf8(),
            _ => {}
        }
    }
    source.len()
}

/// Every module that a source names by `crate::module` or in `use crate::{module, …}`.
fn uses_of(source: &str) -> Vec<Use> {
    let code = code_of(source);
    let mut uses = Vec::new();
    for (place, path) in code.match_indices("crate::") {
        let is_other =
            code[..place].ends_with(|before: char| before.is_alphanumeric() || "_$".contains(before));
        if is_other {
            continue;
        }
        let line = code[..place].matches('\n').count() + 1;
        let after = &code[place + path.len()..];
        let name =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match after.strip_prefix('{') {
            None => uses.push(Use { line, module: name(after) }),
            Some(group) => {
                uses.extend(first_names(group).into_iter().map(|text| Use { line, module: name(text) }));
            }
        }
    }
    uses
}

/// The beginnings of the paths in a group, up to its closing brace.
fn first_names(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (place, next) in group.char_indices() {
        match next {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.push(group[start..place].trim());
                start = place + 1;
                if next == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What is wrong with one file of `module`; `graph` collects who on the ground names whom.
fn faults(
    file: &str,
    module: &str,
    source: &str,
    graph: &mut BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let Some(floor) = floor_of(module) else {
        return vec![format!("{file}: module {module} is on no floor; add it to FLOORS")];
    };
    let mut faults = Vec::new();
    for Use { line, module: used } in uses_of(source) {
        // Items that the crate re-exports at its root may be named so by the facade only.
        let Some(used_floor) = floor_of(&used) else {
            if module != "lib" {
                faults.push(format!("{file}:{line}: {module} uses crate::{used}, which is on no floor"));
            }
            continue;
        };
        let is_ground = floor == 0 && used_floor == 0;
        if is_ground && used != module {
            graph.entry(module.to_owned()).or_default().insert(used.clone());
        }
        let may = used == module || used_floor < floor || is_ground || FLOORS[floor].0 == "facade";
        if !may {
            faults.push(format!("{file}:{line}: {module} may not use {used}"));
        }
    }
    faults
}

/// A circle, as the modules on it, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        graph: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        let module = path.last().expect("a path has a beginning").clone();
        for next in graph.get(&module).into_iter().flatten() {
            let again = path.contains(next);
            if done.contains(next) {
                continue;
            }
            path.push(next.clone());
            if again || walk(graph, path, done) {
                return true;
            }
            path.pop();
        }
        done.insert(module);
        false
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| {
        let mut path = vec![module.clone()];
        walk(graph, &mut path, &mut done).then_some(path)
    })
}

fn walk(dir: &Path, below: &str, each: &mut dyn FnMut(&str, &str)) {
    for entry in RealDisk.list(dir).unwrap() {
        let (path, name) = (dir.join(&entry.name), format!("{below}{}", entry.name));
        if entry.is_dir {
            walk(&path, &format!("{name}/"), each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&name, std::str::from_utf8(&read_all(&RealDisk, &path, 1 << 24).unwrap()).unwrap());
        }
    }
}

#[test]
fn a_file_names_only_lower_floors_or_its_own_folder() {
    let (mut all, mut graph, mut files) = (Vec::new(), BTreeMap::new(), 0);
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut |file, source| {
        let module = file.split('/').next().unwrap().trim_end_matches(".rs");
        files += 1;
        all.extend(faults(file, module, source, &mut graph));
    });
    assert!(files > 30, "only {files} files were found");
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert_eq!(circle(&graph), None, "ground modules name each other in a circle");
}

#[test]
fn a_higher_floor_another_folder_and_an_unlisted_module_are_found() {
    let mut graph = BTreeMap::new();
    let source = "//! crate::engine in a comment\nuse crate::{engine::Core, error::{DbError, Result}};\nlet s = \"crate::raw\";\n";
    assert_eq!(
        faults("format/block.rs", "format", source, &mut graph),
        ["format/block.rs:2: format may not use engine"]
    );
    assert_eq!(
        faults(
            "read/plan.rs",
            "read",
            "// '\"'\nfn f() { crate::state::new(crate::nowhere::X) }",
            &mut graph
        ),
        ["read/plan.rs:2: read uses crate::nowhere, which is on no floor"]
    );
    assert_eq!(
        faults("misc.rs", "misc", "", &mut graph),
        ["misc.rs: module misc is on no floor; add it to FLOORS"]
    );
    assert!(
        faults(
            "kernels/mod.rs",
            "kernels",
            "use crate::kernels::scalar; $crate::x(); my_crate::engine",
            &mut graph
        )
        .is_empty()
    );
}

#[test]
fn a_circle_on_the_ground_is_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(circle(&graph(&[("schema", "error"), ("filter", "schema"), ("filter", "error")])), None);
    let found = circle(&graph(&[("filter", "schema"), ("schema", "error"), ("error", "filter")]));
    assert_eq!(found.unwrap().len(), 4);
}
