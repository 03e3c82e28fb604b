//! The permitted imports between modules, checked in the source. A new edge fails here, with the
//! rule that it breaks.
//!
//! The source is read as tokens, so that comments and strings do not count and macros do. Test
//! modules are exempt.

mod circles;
mod paths;
mod replay;

use std::fmt;
use std::path::{Path, PathBuf};

use paths::PathUse;

/// What each module may import of ours, from the lowest to the highest: a row names rows above it
/// only. `main` has no row.
const MODULES: &[(&str, &str)] = &[
    ("model", ""),
    ("names", ""),
    ("sync", ""),
    ("tls_fault", ""),
    ("drain", "sync"),
    ("config", ""),
    ("simulator", ""),
    ("listen", "sync"),
    ("identity", "model"),
    ("policy", "model sync identity"),
    ("admission", "model drain listen policy"),
    ("rate_limit", "model"),
    ("telemetry", "model names tls_fault listen"),
    ("ledger", "model names sync tls_fault rate_limit"),
    ("ens", "model names sync tls_fault rate_limit"),
    ("backends", "rate_limit telemetry ledger"),
    ("observe", "model rate_limit ledger ens backends"),
    ("failures", "model rate_limit ledger ens observe"),
    (
        "attach",
        "model sync drain admission rate_limit telemetry ledger ens backends observe failures",
    ),
    ("tracker", "model drain rate_limit telemetry ledger ens backends observe attach"),
    (
        "watch",
        "model sync drain admission rate_limit telemetry ledger ens backends observe failures tracker",
    ),
    ("grpc", "model names sync listen identity policy admission telemetry ledger ens attach watch"),
    (
        "app",
        "model names tls_fault drain config listen policy admission rate_limit telemetry ledger ens backends attach tracker watch grpc",
    ),
    ("cli", "model tls_fault config simulator identity policy telemetry grpc app"),
];

/// The generated messages, and who may name them.
const GENERATED: ([&str; 2], [&str; 2]) = (["grpc", "proto"], ["grpc", "cli"]);

/// Where a library may be named: whole modules, or files.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("redis", &["ledger"]),
    ("reqwest", &["ens", "identity/key_set"]),
    ("rustix", &["ledger/boot", "app/descriptors"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_prometheus", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("axum", &["simulator", "telemetry/admin"]),
    ("anyhow", &["main.rs", "cli"]),
    // The world of the simulator draws from a seed of its own.
    ("rand", &["model/random", "simulator"]),
];

/// Whether `file`, relative to `src`, is the module or file `place`, or lies in it.
fn is_in(file: &Path, place: &str) -> bool {
    file.starts_with(place) || file == Path::new(place).with_extension("rs")
}

/// One import that breaks a rule.
#[derive(Debug, PartialEq)]
struct Violation {
    file: PathBuf,
    line: usize,
    path: String,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: `{}`: {}", self.file.display(), self.line, self.path, self.rule)
    }
}

fn rule_broken_by(file: &Path, import: &PathUse) -> Option<String> {
    let first = import.segments.first()?;
    if !import.ours {
        let (_, places) = LIBRARIES.iter().find(|(library, _)| library == first)?;
        let allowed = places.iter().any(|place| is_in(file, place));
        return (!allowed).then(|| format!("{first} may be named only in {}", places.join(", ")));
    }
    let (generated, places) = GENERATED;
    if import.segments.starts_with(&generated.map(str::to_owned))
        && !places.iter().any(|place| is_in(file, place))
    {
        return Some(format!("generated messages may be named only in {}", places.join(", ")));
    }
    let (module, may) = MODULES.iter().find(|(module, _)| is_in(file, module))?;
    let known = MODULES.iter().any(|(module, _)| module == first);
    let allowed = !known || module == first || may.split(' ').any(|allowed| allowed == first);
    (!allowed).then(|| match *may {
        "" => format!("{module} imports nothing of ours"),
        may => format!("{module} may import {}, and not {first}", may.replace(' ', ", ")),
    })
}

fn violations(file: &Path, source: &str) -> Vec<Violation> {
    paths::of(file, source)
        .into_iter()
        .filter_map(|import| {
            rule_broken_by(file, &import).map(|rule| Violation {
                file: file.to_owned(),
                line: import.line,
                path: import.segments.join("::"),
                rule,
            })
        })
        .collect()
}

pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn every_import_is_allowed() {
    let files = sources(&src());
    assert!(!files.is_empty());
    let found: Vec<_> = files
        .iter()
        .filter(|file| {
            !file.ends_with("tests.rs")
                && !file.components().any(|part| part.as_os_str() == "tests")
        })
        .flat_map(|file| {
            violations(file.strip_prefix(src()).unwrap(), &std::fs::read_to_string(file).unwrap())
        })
        .map(|violation| violation.to_string())
        .collect();
    assert!(
        found.is_empty(),
        "imports that break the rules of tests/it/imports.rs:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_row_names_rows_above_it_and_each_of_them_is_needed() {
    let mut above: Vec<&str> = Vec::new();
    for (module, may) in MODULES {
        let files = sources(&src());
        let own = files
            .iter()
            .map(|file| (file.strip_prefix(src()).unwrap(), file))
            .filter(|(file, _)| is_in(file, module));
        let named: Vec<_> = own
            .flat_map(|(file, path)| paths::of(file, &std::fs::read_to_string(path).unwrap()))
            .filter(|import| import.ours)
            .filter_map(|import| import.segments.into_iter().next())
            .collect();
        for allowed in may.split_whitespace() {
            assert!(
                above.contains(&allowed),
                "{module} may import {allowed}, which stands below it"
            );
            assert!(
                named.iter().any(|name| name == allowed),
                "{module} does not import {allowed}: take it out of its row"
            );
        }
        above.push(module);
    }
}

#[test]
fn every_module_has_a_row() {
    for file in sources(&src()) {
        let file = file.strip_prefix(src()).unwrap();
        let free = ["lib.rs", "main.rs"].iter().any(|free| file.starts_with(free));
        assert!(
            free || MODULES.iter().any(|(module, _)| is_in(file, module)),
            "src/{} belongs to no module of tests/it/imports.rs: say what it may import",
            file.display()
        );
    }
}

#[rstest::rstest]
#[case::a_sibling(
    "ens/http.rs",
    "use crate::ledger::Ledger;",
    "ens may import model, names, sync, tls_fault, rate_limit, and not ledger"
)]
#[case::inside_braces(
    "ledger/apply.rs",
    "use crate::{model::State, ens::Ens};",
    "ledger may import"
)]
#[case::inline("admission/gate.rs", "fn f() { crate::ledger::f(); }", "admission may import")]
#[case::by_super("ens/http.rs", "use super::super::ledger::Ledger;", "ens may import")]
#[case::by_super_inline(
    "ens/mod.rs",
    "mod a { fn f() { super::super::ledger::f() } }",
    "ens may import"
)]
#[case::in_a_macro(
    "ens/mod.rs",
    "fn f() { select! { _ = crate::ledger::f() => {} } }",
    "ens may import"
)]
#[case::reexport("model/mod.rs", "pub use crate::ens::Ens;", "model imports nothing of ours")]
#[case::generated(
    "app.rs",
    "use crate::grpc::proto::Attachment;",
    "generated messages may be named only in"
)]
#[case::redis(
    "tracker/claim.rs",
    "use redis::aio::Connection;",
    "redis may be named only in ledger"
)]
#[case::absolute("watch/hub.rs", "fn f(x: ::redis::Value) {}", "redis may be named only in ledger")]
#[case::renamed("app.rs", "use reqwest as r;", "reqwest may be named only in ens")]
#[case::trait_bound(
    "grpc/trace.rs",
    "impl<T: opentelemetry::Key> A for T {}",
    "opentelemetry may be named only in"
)]
#[case::axum("telemetry/init.rs", "use axum::Router;", "axum may be named only in")]
#[case::anyhow(
    "attach.rs",
    "fn f() -> anyhow::Result<()> { Ok(()) }",
    "anyhow may be named only in"
)]
fn each_mutation_is_found(#[case] file: &str, #[case] source: &str, #[case] rule: &str) {
    let found = violations(Path::new(file), &format!("\n{source}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].line, 2);
    assert!(found[0].rule.starts_with(rule), "{}", found[0]);
}

#[rstest::rstest]
#[case::downward("attach.rs", "use crate::{ledger::Ledger, ens::Ens};")]
#[case::own("ledger/redis.rs", "use super::keys; use redis::Script; use crate::ledger::record;")]
#[case::a_module_of_that_name(
    "app.rs",
    "use crate::ledger::{redis, memory}; fn f() { crate::ledger::redis::f() }"
)]
#[case::comment("ens/mod.rs", "// crate::ledger::f\nconst A: &str = \"crate::ledger::f\";")]
#[case::test_module("ens/mod.rs", "#[cfg(test)] mod tests { use crate::simulator::Simulator; }")]
#[case::admin("telemetry/admin.rs", "use axum::Router;")]
#[case::generics("ens/mod.rs", "fn f() { Vec::<u8>::redis(); a::<B>::redis::c() }")]
fn it_lets_pass(#[case] file: &str, #[case] source: &str) {
    assert_eq!(violations(Path::new(file), source), []);
}
