//! What a run came to, as text that can go into a document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Args;
use crate::arena::Arena;
use crate::episode::Finding;
use crate::faults::Kind;
use crate::ledger::Form;

/// One line while it runs.
pub(crate) fn progress(elapsed: Duration, arenas: &[Arc<Arena>]) {
    let parts = arenas.iter().map(|arena| {
        let counts = arena.tally.so_far();
        let faults: usize = counts.recoveries.values().map(Vec::len).sum();
        format!(
            "{}: {} reached ENS, {faults} faults, {} found",
            arena.form,
            counts.reached,
            arena.findings().len()
        )
    });
    eprintln!("{:>5} s  {}", elapsed.as_secs(), parts.collect::<Vec<_>>().join("; "));
}

/// The tables.
pub(crate) fn table(args: &Args, seed: u64, elapsed: Duration, arenas: &[Arc<Arena>]) {
    println!(
        "\n{} s in all, {} s of them under faults, seed {seed}\n",
        elapsed.as_secs(),
        args.lasts.as_secs()
    );
    println!(
        "| ledger | attempts that reached ENS | Attach calls there | shown an end | refused | lost with the ledger's data | longest time an instance served nobody | the same outside of faults |"
    );
    println!("| --- | --: | --: | --: | --: | --: | --: | --: |");
    let mut reached = 0;
    for arena in arenas {
        let counts = arena.tally.so_far();
        let calls = arena.stage.ens.world(|world, _| {
            world
                .books()
                .calls_of(eni_gateway::simulator::Action::AttachNetworkInterface)
        });
        reached += counts.reached;
        println!(
            "| {} | {} | {calls} | {} | {} | {} | {:.1} s | {:.1} s |",
            arena.form,
            counts.reached,
            counts.shown,
            counts.refused,
            counts.with_the_data,
            arena.waits.longest().as_secs_f64(),
            arena.waits.longest_outside().0.as_secs_f64()
        );
    }
    recoveries(arenas);
    answers(arenas);
    let reads: u64 = arenas.iter().map(|arena| arena.tally.so_far().reads).sum();
    println!("\n{reads} reads had to show an ENI");
    let mut findings: BTreeMap<Finding, usize> = BTreeMap::new();
    for (finding, _) in arenas.iter().flat_map(|arena| arena.findings()) {
        *findings.entry(finding).or_default() += 1;
    }
    let of = |finding| findings.get(&finding).copied().unwrap_or_default();
    println!(
        "\n{reached} attempts reached ENS: {} violations, {} lost, {} wrongly reported, {} times longer than the bound",
        of(Finding::Violation),
        of(Finding::Lost),
        of(Finding::Wrong),
        of(Finding::Late)
    );
}

/// By kind of fault: how often, and how soon everybody who had waited was served when it was over.
fn recoveries(arenas: &[Arc<Arena>]) {
    let forms: Vec<Form> = arenas.iter().map(|arena| arena.form).collect();
    let mut kinds: BTreeMap<Kind, BTreeMap<Form, Vec<Duration>>> = BTreeMap::new();
    for arena in arenas {
        for (kind, took) in arena.tally.so_far().recoveries {
            kinds
                .entry(kind)
                .or_default()
                .entry(arena.form)
                .or_default()
                .extend(took);
        }
    }
    let head: Vec<_> = forms.iter().map(Form::to_string).collect();
    println!(
        "\n| fault | times | everybody served again, median and longest, {} |",
        head.join(" | ")
    );
    println!("| --- | --: |{}", " --: |".repeat(forms.len()));
    for (kind, by_form) in kinds {
        let times: usize = by_form.values().map(Vec::len).sum();
        let cells = forms.iter().map(|form| match by_form.get(form) {
            None => "".to_owned(),
            Some(took) => {
                let mut took = took.clone();
                took.sort();
                format!(
                    "{:.1} s, {:.1} s",
                    took[took.len() / 2].as_secs_f64(),
                    took[took.len() - 1].as_secs_f64()
                )
            }
        });
        println!("| {kind} | {times} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn answers(arenas: &[Arc<Arena>]) {
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for (answer, times) in arenas.iter().flat_map(|arena| arena.tally.so_far().answers) {
        *answers.entry(answer).or_default() += times;
    }
    let answers: Vec<_> = answers
        .iter()
        .map(|(answer, times)| format!("{answer} {times}"))
        .collect();
    println!("\nanswers: {}", answers.join(", "));
}
