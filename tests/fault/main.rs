//! The gateway under faults: real processes over real Redis servers and a simulated ENS that enforces no limit and keeps books. Everything
//! that can break is broken, over and over; what callers, watchers and ENS saw is judged. `tests/faults --help` tells the rest.

#![allow(
    clippy::unwrap_used,
    reason = "whoever cannot go on here panics, and the run has failed"
)]

mod arena;
mod callers;
mod clock;
mod episode;
mod faults;
mod gateway;
mod ledger;
mod others;
mod report;
mod run;
mod standing;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "what the other tests need")]
mod support;
mod tally;
mod view;
mod waits;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use eni_gateway::ledger::safety_checks::SafetyCheck;

use faults::Kind;
use ledger::Form;
use others::SHARED;

/// Runs gateways under faults, and judges what callers, watchers and ENS saw. Exits 1 if anything did not hold.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Args {
    /// How long, such as 90s or 1h; the calm at the end comes on top
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lasts: Duration,
    /// Seed of who does what to whom and when; what comes of it depends on the machine as well [default: by chance]
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
    /// Callers of each ledger, each with an ENI of his own
    #[arg(long, value_name = "N", default_value_t = 240)]
    callers: usize,
    /// Instances of each ledger, with three places each; on few of them every place is always taken
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(SHARED.end as u64 + 1..))]
    instances: usize,
    /// Gateways that do without this rule, such as hold: ends as soon as that is found out
    #[arg(long, value_name = "RULE", value_parser = rule)]
    without: Option<SafetyCheck>,
}

fn rule(name: &str) -> Result<SafetyCheck, String> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let found = SafetyCheck::ALL
        .into_iter()
        .find(|rule| plain(&format!("{rule:?}")) == plain(name));
    found.ok_or_else(|| format!("the rules are {:?}", SafetyCheck::ALL))
}

fn main() -> ExitCode {
    // Installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if let Ok(name) = std::env::var(gateway::WITHOUT) {
        return runtime.block_on(gateway::serve_without(rule(&name).unwrap()));
    }
    episode::self_test();
    standing::self_test();
    runtime.block_on(run::run(Args::parse()))
}
