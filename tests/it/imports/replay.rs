//! Code under simulation must repeat itself from the same seed: no random choice, no random map
//! order, no system time. The test reads the source, as the import tests do.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use super::{is_in, paths, sources, src};

/// What no simulation runs.
const OUTSIDE: &[&str] = &["cli", "simulator", "ledger/redis", "telemetry", "app/check", "main.rs"];

/// What differs from run to run, and what to use instead.
const DIFFERS: &[(&str, &str)] = &[
    ("HashMap", "it iterates at random: use BTreeMap"),
    ("HashSet", "it iterates at random: use BTreeSet"),
    ("SystemTime", "use tokio::time::Instant, or the ledger's clock"),
    ("new_v4", "use model::random"),
    ("tokio::sync::watch", "it wakes at random: use crate::sync::watch, or Notify"),
];

/// Where it is allowed.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("grpc/errors", "HashMap", "tonic-types wants one; its order shows nowhere"),
    ("grpc/access", "SystemTime", "for the expiry of credentials, which no simulated caller has"),
    ("ledger/memory", "SystemTime", "where the clock begins, unless a start is given"),
];

fn differs(file: &Path, source: &str) -> Vec<String> {
    let allowed = |word: &str| {
        ALLOWED.iter().any(|(place, allowed, _)| is_in(file, place) && word == *allowed)
    };
    let mut found = Vec::new();
    for path in paths::of(file, source) {
        let words = DIFFERS.iter().filter(|(word, _)| path.segments.join("::").contains(word));
        for (word, instead) in words.filter(|(word, _)| !allowed(word)) {
            found.push(format!("src/{}:{}: {word}: {instead}", file.display(), path.line));
        }
    }
    found.extend(unbiased(source.parse().unwrap()).into_iter().map(|line| {
        format!("src/{}:{line}: select! without `biased;` polls at random", file.display())
    }));
    found
}

/// The lines of every `select!` that does not begin with `biased`.
fn unbiased(tokens: TokenStream) -> Vec<usize> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut lines = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let first = group.stream().into_iter().next();
        let biased = matches!(first, Some(TokenTree::Ident(word)) if word == "biased");
        let is_select = at >= 2
            && matches!(&tokens[at - 1], TokenTree::Punct(punct) if punct.as_char() == '!')
            && matches!(&tokens[at - 2], TokenTree::Ident(word) if word == "select");
        if is_select && !biased {
            lines.push(tokens[at - 2].span().start().line);
        }
        lines.extend(unbiased(group.stream()));
    }
    lines
}

#[test]
fn what_a_simulation_runs_is_the_same_each_time() {
    let mut found = Vec::new();
    for path in sources(&src()) {
        let file = path.strip_prefix(src()).unwrap();
        if !OUTSIDE.iter().any(|place| is_in(file, place) || file == Path::new(place)) {
            found.extend(differs(file, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(found.is_empty(), "a seed would not replay:\n{}", found.join("\n"));
}

#[rstest::rstest]
#[case::a_map("use std::collections::{BTreeMap, HashMap};", "HashMap")]
#[case::inline("fn f() { let a = std::collections::HashSet::new(); }", "HashSet")]
#[case::a_uuid("fn f() { uuid::Uuid::new_v4() }", "new_v4")]
#[case::a_watch("use tokio::sync::{Notify, watch};", "sync::watch")]
#[case::the_clock("fn f() { SystemTime::now() }", "SystemTime")]
#[case::a_select("async fn f() { loop { tokio::select! { () = a => {} } } }", "select!")]
fn each_mutation_is_found(#[case] source: &str, #[case] word: &str) {
    let found = differs(Path::new("watch/hub.rs"), source);
    assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
}

#[test]
fn it_lets_pass() {
    let source = "async fn f() { tokio::select! { biased; () = a => {} } } #[cfg(test)] mod tests { use std::collections::HashMap; }";
    assert_eq!(differs(Path::new("watch/hub.rs"), source), [""; 0]);
}
