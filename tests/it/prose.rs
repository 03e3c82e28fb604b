//! The form of the text that people read: the word list, and the length of lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Words that documents, comments, messages and names do not use. `docs/concepts.md` has the terms
/// to use.
const LISTED: &[&str] = &[
    "told",
    "hears",
    "whoever",
    "nobody",
    "anew",
    "mend",
    "strikes",
    "goes on",
    "as ever",
    "for ever",
    "all the same",
    "he",
    "his",
    "him",
];

/// Longest line, in letters.
const LONGEST: usize = 100;

/// Folders and files whose text is checked, beside the Markdown files at the top.
const CHECKED: &[&str] = &[
    "benches",
    "docs",
    "fuzz/Cargo.toml",
    "fuzz/fuzz_targets",
    "fuzz/run",
    "helm",
    "proto",
    "src",
    "tests",
    "tools",
];

/// One place that breaks a rule, as `file:line: what`.
type Breach = String;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_of(path: PathBuf, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            files_of(entry.unwrap().path(), found);
        }
    } else {
        found.push(path);
    }
}

/// Every text file that is checked, and the Markdown files at the top, in order. Not this file,
/// which has the list.
fn texts() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for path in CHECKED {
        files_of(root().join(path), &mut files);
    }
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    files.extend(top.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    files.retain(|path| !path.ends_with(file!()));
    files.sort();
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path.strip_prefix(root()).unwrap().to_owned(), text))
    };
    files.into_iter().filter_map(text).collect()
}

/// Every listed word of a text, also in the middle of a name. A phrase is found across the end of
/// a line, too.
fn listed_words(file: &Path, text: &str) -> Vec<Breach> {
    let mut words = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let of_line =
            content.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        words.extend(of_line.map(|word| (line, word.to_lowercase())));
    }
    let mut found = Vec::new();
    for listed in LISTED {
        let phrase: Vec<&str> = listed.split(' ').collect();
        let matches = words
            .windows(phrase.len())
            .filter(|window| window.iter().map(|(_, word)| word).eq(phrase.iter()));
        found.extend(
            matches.map(|window| format!("{}:{}: `{listed}`", file.display(), window[0].0)),
        );
    }
    found
}

/// Every line of Markdown and proto, and every comment line of Rust, Python, YAML and Lua, that is
/// too long. Excepted are lines that cannot be broken: rows of tables, and lines with a URL.
/// rustfmt's `max_width` bounds Rust code.
fn long_lines(file: &Path, text: &str) -> Vec<Breach> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let comment = match extension {
        Some("md" | "proto") => None,
        Some("rs") => Some("//"),
        Some("py" | "yaml") => Some("#"),
        Some("lua") => Some("--"),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let begins = content.trim_start();
        let excepted = begins.starts_with('|')
            || content.contains("://")
            || comment.is_some_and(|comment| !begins.starts_with(comment));
        let letters = content.chars().count();
        if letters > LONGEST && !excepted {
            found.push(format!("{}:{line}: {letters} letters", file.display()));
        }
    }
    found
}

#[track_caller]
fn assert_none(what: &str, find: impl Fn(&Path, &str) -> Vec<Breach>) {
    let found: Vec<Breach> = texts().iter().flat_map(|(file, text)| find(file, text)).collect();
    let list = found.iter().fold(String::new(), |mut list, breach| {
        let _ = write!(list, "\n  {breach}");
        list
    });
    assert!(found.is_empty(), "{what} ({}):{list}", found.len());
}

#[test]
fn no_text_uses_a_listed_word() {
    assert_none("listed words", listed_words);
}

#[test]
fn no_line_is_too_long() {
    assert_none("long lines", long_lines);
}

#[test]
fn a_listed_word_is_found_whole_and_over_two_lines() {
    let found = |text: &str| listed_words(Path::new("a.md"), text);
    assert_eq!(found("Nobody's turn."), ["a.md:1: `nobody`"]);
    assert_eq!(found("one\n// that goes\n// on"), ["a.md:2: `goes on`"]);
    assert_eq!(found("if was_told {"), ["a.md:1: `told`"]);
    assert_eq!(found("the commander mended this"), [""; 0]);
}

#[test]
fn a_long_line_is_found_where_it_can_be_broken() {
    let long = "word ".repeat(21);
    let found = |name: &str, text: &str| long_lines(Path::new(name), text).len();
    assert_eq!(found("a.md", &long), 1);
    assert_eq!(found("a.rs", &format!("    // {long}")), 1);
    assert_eq!(found("a.rs", &long), 0, "code is rustfmt's");
    assert_eq!(found("a.md", &format!("| {long}")), 0, "a row of a table");
    assert_eq!(found("a.md", &format!("{long}https://example.com")), 0, "a URL");
}
