//! The seeds that run, and the report of a failed one. `SIM_HISTORY=1` prints every whole history.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::{Verdict, run};

/// Default number of seeds: about a minute's worth on two cores.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 2_000 };

/// After so many failures no more seeds are tried.
const ENOUGH: usize = 10;

/// The seeds that the environment asks for: `SIM_SEED=7` one, `SIM_SEEDS=500` the first so many,
/// `SIM_SEEDS=500..900` a range.
pub(crate) fn asked_for(otherwise: u64) -> std::ops::Range<u64> {
    let variable = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("`{text}` is no seed"));
    if let Some(seed) = variable("SIM_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match variable("SIM_SEEDS") {
        Some(seeds) => match seeds.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&seeds),
        },
        None => 0..otherwise,
    }
}

/// What a failed seed says.
pub(crate) fn report(seed: u64, verdict: &Verdict) -> Option<String> {
    report_of(seed, verdict, "every_seed_holds")
}

/// The same, of a seed of this test.
fn report_of(seed: u64, verdict: &Verdict, test: &str) -> Option<String> {
    let violation = verdict.violation.as_ref()?;
    Some(format!(
        "seed {seed} breaks {} after {:.3} s: {}\n{}\nthe last events:\n{}\
         replay: SIM_SEED={seed} tests/prove -E 'test({test})'",
        violation.invariant,
        violation.at.as_secs_f64(),
        violation.what,
        verdict.plan,
        verdict.account.tail(violation.at),
    ))
}

/// Runs every seed that is asked for.
pub(crate) fn try_all() {
    try_each(asked_for(SEEDS), "every_seed_holds", run);
}

/// Runs these seeds of a test, on every core; panics with the first that fails, and names the
/// others.
pub(crate) fn try_each(
    seeds: std::ops::Range<u64>,
    test: &str,
    run: impl Fn(u64) -> Verdict + Sync,
) {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let verdict = run(seed);
                    if let Some(report) = report_of(seed, &verdict, test) {
                        failed.lock().unwrap().insert(seed, report);
                    }
                    if std::env::var_os("SIM_HISTORY").is_some() {
                        eprintln!("{}", verdict.account);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if let Some((_, report)) = failed.first_key_value() {
        let each: Vec<_> = failed.values().filter_map(|report| report.lines().next()).collect();
        panic!("{report}\n{} failed:\n{}", failed.len(), each.join("\n"));
    }
}
