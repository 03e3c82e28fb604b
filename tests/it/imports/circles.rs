//! In no folder do the modules import each other in a circle, so a drawing has arrows in one
//! direction only.
//!
//! An import counts in the folder in which its two ends part: `ledger/redis/init` →
//! `ledger/redis/node/records` is `init` → `node` in `ledger/redis`. The folder's own file,
//! `mod.rs`, is `.` there. An import through a `pub use` leads to the definition.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{paths, sources, src};

/// Imports that close a circle today, as `folder: importing imported`. The list only shrinks.
const KNOWN: &[&str] = &[];

type Module = Vec<String>;
/// What each module imports, by folder.
type Folders = BTreeMap<String, BTreeSet<(String, String)>>;

/// The names that each module imports, and where they lead.
#[derive(Default)]
struct Names(BTreeMap<Module, BTreeMap<String, Module>>);

impl Names {
    /// The module in which the item of this path is defined.
    fn definition(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        // More passings-on than there are in any sane crate: a name that leads to itself.
        for _ in 0..10 {
            let module = (0..=path.len()).rev().map(|length| &path[..length]);
            let module = module.clone().find(|module| self.0.contains_key(*module))?.to_vec();
            let name = path.get(module.len());
            match name.and_then(|name| self.0[&module].get(name)) {
                Some(leads_to) => {
                    path = leads_to.iter().chain(&path[module.len() + 1..]).cloned().collect();
                }
                None => return Some(module),
            }
        }
        None
    }
}

/// The imports between modules, of files relative to `src` and their texts.
fn folders<'a>(files: impl Iterator<Item = (&'a Path, &'a str)>) -> Folders {
    let read: Vec<_> =
        files.map(|(file, source)| (paths::module_of(file), paths::read(file, source))).collect();
    let modules: BTreeSet<_> = read.iter().map(|(module, _)| module.clone()).collect();
    // `use node::Node` names a child without `self`.
    let absolute = |module: &Module, import: &paths::PathUse| {
        let child: Module = module.iter().chain(&import.segments[..1]).cloned().collect();
        if import.ours {
            Some(import.segments.clone())
        } else {
            let is_child = modules.contains(&child);
            is_child.then(|| module.iter().chain(&import.segments).cloned().collect())
        }
    };
    let mut names = Names::default();
    for (module, (imports, _)) in &read {
        let known = names.0.entry(module.clone()).or_default();
        for import in imports {
            if let (Some(name), Some(path)) = (&import.imported_as, absolute(module, import)) {
                known.insert(name.clone(), path);
            }
        }
    }
    let mut found = Folders::new();
    for (from, (imports, words)) in &read {
        for import in imports {
            let passed_on = import.public
                && import.imported_as.as_ref().is_some_and(|name| !words.contains(name));
            let Some(to) = absolute(from, import).and_then(|path| names.definition(&path)) else {
                continue;
            };
            if passed_on || to == *from || to.is_empty() {
                continue;
            }
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            let name = |module: &Module| module.get(shared).map_or(".", String::as_str).to_owned();
            let folder = found.entry(from[..shared].join("/")).or_default();
            folder.insert((name(from), name(&to)));
        }
    }
    found
}

/// The imports that lie on a circle.
fn in_circles(imports: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let reaches = |from: &String, to: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(imports.iter().filter(|(from, _)| from == module).map(|(_, to)| to));
            }
        }
        seen.contains(to)
    };
    imports.iter().filter(|(from, to)| reaches(to, from)).cloned().collect()
}

fn source_files() -> Vec<(std::path::PathBuf, String)> {
    let is_test = |file: &Path| {
        file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests")
    };
    let files = sources(&src()).into_iter().filter(|file| !is_test(file));
    files
        .map(|file| {
            (file.strip_prefix(src()).unwrap().to_owned(), std::fs::read_to_string(&file).unwrap())
        })
        .collect()
}

#[test]
fn no_folder_has_a_circle_of_imports() {
    let files = source_files();
    let mut folders = folders(files.iter().map(|(file, source)| (file.as_path(), source.as_str())));
    let all = folders.clone();
    for (folder, imports) in &mut folders {
        imports.retain(|import| !KNOWN.contains(&line(folder, import).as_str()));
    }
    let found = circles_in(&folders);
    assert!(found.is_empty(), "imports that close a circle:\n{}", found.join("\n"));

    let without = folders;
    let closes = |known: &&&str| {
        let mut with = without.clone();
        for (folder, imports) in &mut with {
            let import = all[folder].iter().find(|import| line(folder, import) == **known);
            imports.extend(import.cloned());
        }
        circles_in(&with).contains(&(**known).to_owned())
    };
    let stale: Vec<_> = KNOWN.iter().filter(|known| !closes(known)).collect();
    assert!(stale.is_empty(), "no longer close a circle, remove them from KNOWN: {stale:?}");
}

/// Modules that stand alone: none of them imports another one.
const APART: (&str, &[&str]) = (
    "ledger/redis/node",
    &["change_subscriber", "connection", "epoch_guard", "preflight", "replica_waiter"],
);

#[test]
fn the_parts_of_a_redis_node_stand_alone() {
    let files = source_files();
    let folders = folders(files.iter().map(|(file, source)| (file.as_path(), source.as_str())));
    let (folder, parts) = APART;
    let is_part = |module: &String| parts.contains(&module.as_str());
    let imports = &folders[folder];
    assert!(parts.iter().all(|part| imports.iter().any(|(_, to)| to == part)));
    let found: Vec<_> = imports.iter().filter(|(from, to)| is_part(from) && is_part(to)).collect();
    assert!(found.is_empty(), "parts of {folder} that import each other: {found:?}");
}

fn line(folder: &str, (from, to): &(String, String)) -> String {
    format!("{folder}: {from} {to}")
}

/// The imports of each folder that lie on a circle.
fn circles_in(folders: &Folders) -> Vec<String> {
    let all = folders.iter().flat_map(|(folder, imports)| {
        let circles = in_circles(imports).into_iter();
        circles.map(move |import| line(folder, &import))
    });
    all.collect()
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(file, source)| (Path::new(*file), *source));
    circles_in(&folders(files))
}

#[test]
fn a_circle_is_found_in_the_folder_where_it_closes() {
    let siblings = circles(&[
        ("a/mod.rs", "mod b; mod c;"),
        ("a/b.rs", "use super::c::C; pub struct B;"),
        ("a/c/mod.rs", "mod d; pub use d::C;"),
        ("a/c/d.rs", "fn f(_: crate::a::b::B) {} pub struct C;"),
    ]);
    assert_eq!(siblings, ["a: b c", "a: c b"]);
    let parent = circles(&[
        ("a.rs", "mod b; use b::B; pub struct A;"),
        ("a/b.rs", "use super::A; pub struct B;"),
    ]);
    assert_eq!(parent, ["a: . b", "a: b ."]);
    let used_by_the_parent = circles(&[
        ("a.rs", "mod b; pub use b::B; pub struct A(B);"),
        ("a/b.rs", "use super::A; pub struct B;"),
    ]);
    assert_eq!(used_by_the_parent, ["a: . b", "a: b ."]);
}

#[test]
fn what_is_only_passed_on_closes_no_circle() {
    let facade = circles(&[
        ("a/mod.rs", "mod b; mod c; pub use b::{B as Bee}; pub(crate) use c::C;"),
        ("a/b.rs", "use super::C; pub struct B;"),
        ("a/c.rs", "pub(in super::super) struct C;"),
        ("d.rs", "use crate::a::Bee;"),
    ]);
    assert_eq!(facade, [""; 0]);
}
