//! The gateway under faults: real processes, real Redis servers, and a simulated ENS with a journal
//! and without a limit. Everything that can break is broken repeatedly; the results of callers,
//! watchers and ENS are checked. See `tests/faults --help`.

#![allow(clippy::unwrap_used, reason = "an error here panics, and the run has failed")]

mod callers;
mod counters;
mod ens_truth;
mod environment;
mod episode;
mod faults;
mod gateway;
mod ledger;
mod locks;
mod other_programs;
mod primaries;
mod report;
mod run;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "what the other tests need")]
mod support;
mod view;
mod waits;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use eni_gateway::ledger::SafetyCheck;

use faults::Kind;
use ledger::Form;
use other_programs::SHARED;

/// Runs gateways under faults, and checks what callers, watchers and ENS saw. Exits 1 if anything
/// did not hold.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Args {
    /// Duration of the faults, such as 90s or 1h; the calm at the end comes on top
    #[arg(
        long = "for",
        value_name = "TIME",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    lasts: Duration,
    /// Seed of the plan; the result depends on the machine as well [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Forms of Redis; all of them at once unless said otherwise
    #[arg(
        long,
        value_name = "FORM",
        value_delimiter = ',',
        value_enum,
        default_value = "one,sentinel,synced,cluster"
    )]
    ledger: Vec<Form>,
    /// Kinds of faults; all of them in turn unless said otherwise
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_enum)]
    kinds: Vec<Kind>,
    /// Callers of each ledger, each with an ENI of its own
    #[arg(long, value_name = "N", default_value_t = 240)]
    callers: usize,
    /// Instances of each ledger, with three slots each; on a few of them every slot is always used
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = instances())]
    instances: usize,
    /// Safety check that is off in all gateways, such as hold-down; the run ends with the first
    /// violation
    #[arg(long, value_name = "RULE", value_parser = rule)]
    without: Option<SafetyCheck>,
}

fn instances() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(SHARED.end as u64 + 1..)
}

fn rule(name: &str) -> Result<SafetyCheck, String> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let found =
        SafetyCheck::ALL.into_iter().find(|rule| plain(&format!("{rule:?}")) == plain(name));
    found.ok_or_else(|| format!("the rules are {:?}", SafetyCheck::ALL))
}

fn main() -> ExitCode {
    // Installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Ok(name) = std::env::var(gateway::WITHOUT) {
        return runtime.block_on(gateway::serve_without(rule(&name).unwrap()));
    }
    episode::self_test();
    ens_truth::self_test();
    runtime.block_on(run::run(Args::parse()))
}
