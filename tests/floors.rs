//! Imports between the files of each package: no two files import each other, directly or by way of others, and none
//! imports what is on a higher floor. No file is long.
#![cfg(not(any(loom, shuttle)))]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each package's source with its floors, from the ground. A module that is not named is on the floor of the one that
/// it is in.
const PACKAGES: [(&str, &[&str]); 7] = [
    ("src", &["sync handle", "epoch", "pool", "table", "backend", "nn"]),
    (
        "backends/candle/src",
        &[
            "quote",
            "tensor",
            "format gguf profile",
            "compute",
            "math text",
            "quant grammar",
            "device",
            "ops",
            "exec",
            "compile place",
            "model strings",
            "context",
            "graph llm",
        ],
    ),
    (
        "backends/dylib/src",
        &["abi settings turn", "library", "instance", "session", "loaded output", "context", "graph", "backend"],
    ),
    ("hosts/ffi/src", &["copy shield handles", "arguments", "guest"]),
    (
        "hosts/c/src",
        &["code", "call numbers paths version", "resolver", "limits", "engine", "guest", "inference jobs lists models"],
    ),
    ("hosts/wamr/src", &["config layout", "engine", "interface"]),
    ("hosts/wasmtime/src", &["ctx limits preload span", "wit witx"]),
];

/// Lines that a file may have, its tests aside.
const LONGEST: usize = 400;

/// A module's path below the root, such as `pool::slot`; the root's is empty.
type Module = String;

struct Package {
    /// The text of each module, without comments and tests.
    texts: BTreeMap<Module, String>,
    /// What a module gives out under a name and has from elsewhere: the path of that.
    exports: BTreeMap<(Module, String), (Module, Vec<String>)>,
}

impl Package {
    fn read(root: &Path) -> Self {
        let mut package = Self { texts: BTreeMap::new(), exports: BTreeMap::new() };
        package.read_folder(root, "");
        for (module, text) in &package.texts {
            for statement in uses(text) {
                if let Some(tree) = statement.strip_prefix("pub").and_then(|rest| rest.split_once("use ")) {
                    for (name, path) in leaves(tree.1) {
                        package.exports.insert((module.clone(), name), (module.clone(), path));
                    }
                }
            }
        }
        package
    }

    fn read_folder(&mut self, folder: &Path, module: &str) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let inner = if ["lib", "mod"].contains(&stem) { module.to_owned() } else { below(module, stem) };
            if ["tests", "models"].contains(&stem) {
                continue;
            }
            if path.is_dir() {
                self.read_folder(&path, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                self.texts.insert(inner, stripped(&fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// The module in which the item of a path is, as `module` names it; `None` for another crate's.
    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (String::new(), rest),
            "self" => (module.to_owned(), rest),
            "super" => (above(module), rest),
            name if self.texts.contains_key(&below(module, name)) => (below(module, name), rest),
            name => {
                let (from, path) = self.exports.get(&(module.to_owned(), name.to_owned()))?;
                return (depth < 8 && path.first() != Some(first)).then(|| self.resolve(from, path, depth + 1))?;
            }
        };
        while let Some((name, others)) = rest.split_first() {
            if name == "super" {
                at = above(&at);
            } else if self.texts.contains_key(&below(&at, name)) {
                at = below(&at, name);
            } else if let Some((from, path)) = self.exports.get(&(at.clone(), name.clone())) {
                return if depth < 8 { self.resolve(from, path, depth + 1) } else { None };
            } else {
                break;
            }
            rest = others;
        }
        Some(at)
    }

    /// The modules that each imports. What a module only passes on is no import of its own.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<Module>> {
        let mut imports = BTreeMap::new();
        for (module, text) in &self.texts {
            let mut paths: Vec<Vec<String>> = Vec::new();
            let mut body = text.clone();
            for statement in uses(text) {
                body = body.replacen(&statement, "", 1);
                if let Some(tree) = statement.strip_prefix("use ") {
                    paths.extend(leaves(tree).into_iter().map(|(_, path)| path));
                }
            }
            // A module's own child, by its name alone.
            for name in self.texts.keys().filter(|other| above(other) == *module && *other != module) {
                let name = name.rsplit("::").next().unwrap_or_default();
                let named = format!("{name}::");
                let whole = |at: usize| !body[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if body.match_indices(&named).any(|(at, _)| whole(at)) {
                    paths.push(vec![name.to_owned()]);
                }
            }
            for start in ["crate::", "super::"] {
                // A visibility such as `pub(in crate::ops)` imports nothing.
                for (at, _) in body.match_indices(start).filter(|(at, _)| !body[..*at].ends_with("(in ")) {
                    let end = body[at..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                    let path = &body[at..end.map_or(body.len(), |end| at + end)];
                    paths.push(path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect());
                }
            }
            let found = paths.iter().filter_map(|path| self.resolve(module, path, 0));
            imports.insert(module.as_str(), found.filter(|found| found != module).collect());
        }
        imports
    }
}

fn below(module: &str, name: &str) -> Module {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn above(module: &str) -> Module {
    module.rsplit_once("::").map_or(String::new(), |(above, _)| above.to_owned())
}

/// Without comments, and without what only tests have.
fn stripped(text: &str) -> String {
    let end = ["\nmod tests {", "\nmod models {"].iter().filter_map(|start| text.find(start)).min();
    let lines = text[..end.unwrap_or(text.len())].lines();
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The statements that begin with `use`, or with `pub` and `use`, each up to its semicolon.
fn uses(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut rest = text;
    while let Some(line) = rest.lines().next() {
        let begins = line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
        let end = if begins { rest.find(';').map_or(rest.len(), |end| end + 1) } else { line.len() };
        if begins {
            statements.push(rest[..end].to_owned());
        }
        rest = rest[end..].trim_start_matches('\n');
    }
    statements
}

/// The paths of a tree such as `a::{b, c as d}`, each under the name that it gets.
fn leaves(tree: &str) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim().trim_end_matches(';').trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path: Vec<String> = path.split("::").map(|name| name.trim().to_owned()).collect();
        let name = if name.is_empty() { path.last().unwrap().clone() } else { name.trim().to_owned() };
        return vec![(name, path)];
    };
    let inside = inside.trim_end().strip_suffix('}').unwrap_or(inside);
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    let prefix = before.trim().trim_end_matches("::");
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(|part| leaves(&if part == "self" { prefix.to_owned() } else { format!("{prefix}::{part}") }))
        .collect()
}

/// The groups of modules that reach each other.
fn circles(imports: &BTreeMap<&str, BTreeSet<Module>>) -> BTreeSet<Vec<Module>> {
    let reached = |from: &str| {
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = waiting.pop() {
            for next in imports.get(module.as_str()).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<Module>> = imports.keys().map(|module| (*module, reached(module))).collect();
    let both = |a: &str, b: &str| reached[a].contains(b) && reached[b].contains(a);
    let group = |a: &&str| imports.keys().filter(|b| both(a, b)).map(|b| (*b).to_owned()).collect::<Vec<_>>();
    imports.keys().map(group).filter(|group| group.len() > 1).collect()
}

#[test]
fn imports_go_down_and_never_in_a_circle() {
    for (source, floors) in PACKAGES {
        let package = Package::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
        let imports = package.imports();
        // Far fewer would mean that the search has missed them.
        assert!(imports.len() > floors.len(), "the files of {source} are found");
        assert!(imports.values().flatten().count() * 3 >= imports.len(), "the imports of {source} are found");
        let floor = |module: &str| {
            floors.iter().position(|floor| floor.split(' ').any(|name| module.split("::").next() == Some(name)))
        };
        for (module, imported) in &imports {
            for other in imported {
                if let (Some(from), Some(to)) = (floor(module), floor(other)) {
                    assert!(to <= from, "{module} of {source} imports {other}, which is on a higher floor");
                }
            }
        }
        let circles = circles(&imports);
        assert!(circles.is_empty(), "in {source}, these import each other: {circles:?}");
    }
}

#[test]
fn no_file_is_long() {
    for (source, _) in PACKAGES {
        for (module, text) in Package::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).texts {
            let lines = text.lines().count();
            assert!(lines <= LONGEST, "{module} of {source} has {lines} lines, and at most {LONGEST} are allowed");
        }
    }
}

#[test]
fn a_circle_and_what_is_passed_on_are_found() {
    let folder = std::env::temp_dir().join(format!("graphpool-floors-{}", std::process::id()));
    fs::create_dir_all(folder.join("b")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("lib.rs", "mod a;\nmod b;\npub use b::{deep::Thing as Given, Other};\n");
    write("a.rs", "use crate::{Given};\n// use crate::b::Other;\nfn f() {}\n");
    write("b/mod.rs", "mod deep;\npub struct Other;\nfn f() {\n    deep::f();\n}\n");
    write("b/deep.rs", "pub struct Thing;\nfn f() {\n    crate::a::f();\n}\n");
    let package = Package::read(&folder);
    fs::remove_dir_all(&folder).unwrap();
    let imports = package.imports();
    assert_eq!(imports["a"], ["b::deep".to_owned()].into());
    assert_eq!(imports["b"], ["b::deep".to_owned()].into());
    assert_eq!(circles(&imports), [vec!["a".to_owned(), "b::deep".to_owned()]].into());
}
