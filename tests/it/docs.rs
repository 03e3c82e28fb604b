//! The generated tables of the documents. A stale one fails here; update it with
//! `UPDATE_DOCS=1 cargo nextest run -E 'test(docs::)'`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use eni_gateway::config::settings::ALL;
use eni_gateway::model::Reason;
use eni_gateway::telemetry::Metrics;
use eni_gateway::telemetry::metrics::{Ended, RefusedBy};

const BEGIN: &str = "<!-- generated: see tests/it/docs.rs -->\n";
const END: &str = "<!-- end of the generated part -->\n";

/// Compares the generated part of a document with what it should be.
#[track_caller]
fn assert_generated(document: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(
            found == expected,
            "{document} is stale; run with UPDATE_DOCS=1, or write:\n{expected}"
        );
    }
}

#[test]
fn the_settings_are_those_of_the_program() {
    let mut table = String::new();
    let mut section = "";
    for setting in ALL {
        if setting.section != section {
            section = setting.section;
            write!(
                table,
                "\n### {section}\n\n| setting | default | meaning |\n| --- | --- | --- |\n"
            )
            .unwrap();
        }
        let default = match setting.default {
            "" => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        let meaning = setting.doc.concat();
        writeln!(table, "| `{}` | {default} | {} |", setting.path, meaning.trim()).unwrap();
    }
    assert_generated("docs/configuration.md", &format!("{table}\n"));
}

/// Everything that a gateway measures, once each.
fn exposition() -> String {
    let metrics = Metrics::new("0.0.0", "abc").unwrap();
    metrics.rpc_answered("_OTHER", "UNAVAILABLE", Some(Reason::Draining), Duration::ZERO);
    metrics.ens_answered("AttachNetworkInterface", "accepted", Duration::ZERO);
    metrics.lock_waited(Duration::ZERO);
    metrics.attempt_ended(Ended::Attached);
    metrics.limit_rejected(RefusedBy::Ledger);
    metrics.polled(1);
    metrics.watch_lagged(Duration::ZERO);
    metrics.clock_stepped(1, 0);
    metrics.handshakes_failed("expired", 1);
    metrics.set_ledger_memory_used(Some(1));
    metrics.invariant_violated("L1", 1);
    metrics.exposition().unwrap()
}

/// The labels of each metric's samples, without the bound of a bucket.
fn labels(exposition: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let names =
            rest.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        labels.entry(name).or_default().extend(names.filter(|name| *name != "le"));
    }
    labels
}

#[test]
fn the_metrics_are_those_of_the_program() {
    let exposition = exposition();
    let labels = labels(&exposition);
    let mut table =
        "\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    let comment = |kind: &str| {
        let lines = exposition
            .lines()
            .filter_map(|line| line.strip_prefix("# ")?.strip_prefix(kind)?.strip_prefix(' '));
        let pairs = lines.filter_map(|line| line.split_once(' '));
        pairs.collect::<BTreeMap<&str, &str>>()
    };
    let kinds = comment("TYPE");
    for (name, meaning) in comment("HELP") {
        if name.starts_with("process_") {
            continue;
        }
        let of_name = labels.get(name).into_iter().flatten();
        let of_name: Vec<_> = of_name.map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {} | {} | {meaning} |", kinds[name], of_name.join(", "))
            .unwrap();
    }
    assert_generated("docs/metrics.md", &format!("{table}\n"));
}
