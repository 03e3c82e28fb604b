//! The result of a run, as text for a document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Args;
use crate::environment::Environment;
use crate::episode::Violation;
use crate::faults::Kind;
use crate::ledger::Form;

/// One line while it runs.
pub(crate) fn progress(elapsed: Duration, environments: &[Arc<Environment>]) {
    let parts = environments.iter().map(|environment| {
        let counts = environment.counters.so_far();
        let faults: usize = counts.recoveries.values().map(Vec::len).sum();
        format!(
            "{}: {} reached ENS, {faults} faults, {} found",
            environment.form,
            counts.reached,
            environment.violations().len()
        )
    });
    eprintln!("{:>5} s  {}", elapsed.as_secs(), parts.collect::<Vec<_>>().join("; "));
}

/// The tables.
pub(crate) fn table(args: &Args, seed: u64, elapsed: Duration, environments: &[Arc<Environment>]) {
    println!(
        "\n{} s in all, {} s of them under faults, seed {seed}\n",
        elapsed.as_secs(),
        args.lasts.as_secs()
    );
    println!(
        "| ledger | attempts that reached ENS | Attach calls there | shown an end | refused \
         | lost with the ledger's data | longest time without a served caller \
         | the same outside of faults |"
    );
    println!("| --- | --: | --: | --: | --: | --: | --: | --: |");
    let mut reached = 0;
    for environment in environments {
        let counts = environment.counters.so_far();
        let calls = environment.stage.ens.world(|world, _| {
            world.journal().calls_of(eni_gateway::simulator::Action::AttachNetworkInterface)
        });
        reached += counts.reached;
        println!(
            "| {} | {} | {calls} | {} | {} | {} | {:.1} s | {:.1} s |",
            environment.form,
            counts.reached,
            counts.shown,
            counts.refused,
            counts.with_the_data,
            environment.waits.longest().as_secs_f64(),
            environment
                .waits
                .longest_outside()
                .map_or(0.0, |longest| longest.outside.as_secs_f64())
        );
    }
    recoveries(environments);
    answers(environments);
    let reads: u64 =
        environments.iter().map(|environment| environment.counters.so_far().reads).sum();
    println!("\n{reads} reads had to show an ENI");
    let mut violations: BTreeMap<Violation, usize> = BTreeMap::new();
    for (violation, what) in environments.iter().flat_map(|environment| environment.violations()) {
        // Again, because a log that is cut may have lost what was printed during the run.
        println!("\nFOUND {violation:?}: {what}");
        *violations.entry(violation).or_default() += 1;
    }
    let of = |violation| violations.get(&violation).copied().unwrap_or_default();
    println!(
        "\n{reached} attempts reached ENS: {} violations, {} lost, {} wrongly reported, \
         {} times longer than the bound",
        of(Violation::Invariant),
        of(Violation::Lost),
        of(Violation::Wrong),
        of(Violation::Late)
    );
}

/// By kind of fault: how often, and how soon every waiting caller was served after it.
fn recoveries(environments: &[Arc<Environment>]) {
    let forms: Vec<Form> = environments.iter().map(|environment| environment.form).collect();
    let mut kinds: BTreeMap<Kind, BTreeMap<Form, Vec<Duration>>> = BTreeMap::new();
    for environment in environments {
        for (kind, took) in environment.counters.so_far().recoveries {
            kinds.entry(kind).or_default().entry(environment.form).or_default().extend(took);
        }
    }
    let head: Vec<_> = forms.iter().map(Form::to_string).collect();
    println!("\n| fault | times | all served again, median and longest, {} |", head.join(" | "));
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

fn answers(environments: &[Arc<Environment>]) {
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for (answer, times) in
        environments.iter().flat_map(|environment| environment.counters.so_far().answers)
    {
        *answers.entry(answer).or_default() += times;
    }
    let answers: Vec<_> =
        answers.iter().map(|(answer, times)| format!("{answer} {times}")).collect();
    println!("\nanswers: {}", answers.join(", "));
}
