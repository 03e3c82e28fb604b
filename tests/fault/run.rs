//! A run: concurrent environments, faults one after another in each, then calm, then the verdict.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum as _;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{Attachment, ListAttachmentsRequest};
use eni_gateway::simulator::EniStatus;
use futures_util::future::join_all;
use rand::prelude::*;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::Args;
use crate::callers::{Caller, homes};
use crate::environment::{CROWDED, Environment, Plan};
use crate::episode::Violation;
use crate::faults::{self, Kind};
use crate::other_programs::{self, EXTERNAL, READERS};
use crate::primaries;
use crate::report;
use crate::support::gateway::eni;
use crate::support::redis::Server;
use crate::view::{Left, View};

/// How long the waiting callers may take to be served after a fault. Longer than a recovery
/// hold-down.
const RECOVERY: Duration = Duration::from_secs(45);
/// How long attempts may be under way in a calm world.
const SETTLING: Duration = Duration::from_secs(120);
const WATCHERS: usize = 6;
/// Callers through grpcio.
const GRPCIO: usize = 2;
/// Longest time in which callers wait for an instance and none is served there, outside of faults
/// and what they leave behind: a lease that was not given back, a grant on trial, an Attach and a
/// describe that go unanswered, and polls; twice that on a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("seed {seed}, {} callers over each of {:?}", args.callers, args.ledger);
    if !python() {
        println!("no caller uses grpcio: there is no .venv (`tests/run` makes it)");
    }
    let plans = args.ledger.iter().enumerate().map(|(number, form)| Plan {
        form: *form,
        seed: seed + number as u64 * 10_000,
        instances: args.instances,
        callers: args.callers,
        without: args.without,
        python: python(),
    });
    let mut environments = Vec::new();
    for plan in plans {
        environments.push(Environment::start(&plan).await);
    }
    let began = Instant::now();
    let kinds =
        if args.kinds.is_empty() { Kind::value_variants().to_vec() } else { args.kinds.clone() };
    let stop = || {
        began.elapsed() >= args.lasts
            || (args.without.is_some() && found(&environments).next().is_some())
    };
    let lives =
        environments.iter().map(|environment| live(environment, &kinds, args.callers, &stop));
    let progress = async {
        while !environments.iter().all(|environment| environment.is_ending()) {
            sleep(Duration::from_secs(10)).await;
            report::progress(began.elapsed(), &environments);
        }
    };
    tokio::join!(join_all(lives), progress);
    report::table(&args, seed, began.elapsed(), &environments);
    match found(&environments).next() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

fn found(environments: &[Arc<Environment>]) -> impl Iterator<Item = (Violation, String)> {
    environments.iter().flat_map(|environment| environment.violations())
}

/// One environment, until `stop` says so, and then to its end.
async fn live(
    environment: &Arc<Environment>,
    kinds: &[Kind],
    callers: usize,
    stop: &impl Fn() -> bool,
) {
    let seed = environment.seed;
    let tasks = TaskTracker::new();
    let limit = tasks.spawn(environment.clone().watch_limit());
    let callers: Vec<_> = (0..callers)
        .map(|number| {
            let mut caller = Caller::new(environment, eni(number + 1), seed + 100 + number as u64);
            if environment.python && number < GRPCIO {
                caller = caller.over_grpcio();
            }
            tasks.spawn(caller.run(homes(number, environment.instances, CROWDED)))
        })
        .collect();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|number| {
            tasks.spawn(watch(
                environment.clone(),
                number,
                StdRng::seed_from_u64(seed + 1 + number as u64),
            ))
        })
        .collect();
    let observer = tasks.spawn(environment.clone().watch_ens());
    let urls = environment.servers.lock().await.all().iter().map(Server::url).collect();
    let primaries = tasks.spawn(primaries::watch(environment.clone(), urls));
    let random = |number: usize| StdRng::seed_from_u64(seed + 50 + number as u64);
    let readers = (0..READERS)
        .map(|number| tasks.spawn(other_programs::read(environment.clone(), random(number))));
    let external = (1..=EXTERNAL).map(|number| {
        let own = eni(environment.callers + 1 + number);
        tasks.spawn(other_programs::attach(environment.clone(), own, random(READERS + number)))
    });
    let others: Vec<_> = readers.chain(external).collect();
    let mut spare = Caller::new(environment, eni(callers.len() + 1), seed + 99);
    let injected = inject_faults(environment, kinds, &mut spare, StdRng::seed_from_u64(seed), stop);
    tokio::join!(injected, faults::weather(environment, StdRng::seed_from_u64(seed + 98)));
    for caller in callers {
        caller.await.unwrap();
    }
    for other in others {
        other.await.unwrap();
    }
    observer.await.unwrap();
    environment.callers_ended();
    primaries.await.unwrap();
    if let Some(longest) = environment.waits.longest_outside() {
        let what = environment.waits.summary(&longest);
        if longest.outside > LONGEST_WAIT {
            let details = environment.waits.details(&longest);
            environment.violation(Violation::Late, format!("P1: {what}{details}"));
        } else {
            let at = environment.elapsed().as_secs_f64();
            eprintln!("{at:>7.1} s  {}: longest wait: {what}", environment.form);
        }
    }
    settle(environment).await;
    environment.leave();
    for watcher in watchers {
        let view = watcher.await.unwrap();
        saw_the_last(environment, &view).await;
    }
    limit.await.unwrap();
    for number in 0..environment.gateways.len() {
        environment.ask_gateway(number).await;
        let counted =
            environment.gateways[number].metric("eni_gateway_invariant_violations_total").await;
        if counted > 0.0 {
            environment.violation(
                Violation::Invariant,
                format!("gateway {number} counts {counted} violations"),
            );
        }
    }
}

/// One fault after another, each when everybody who waited was served again.
async fn inject_faults(
    environment: &Arc<Environment>,
    kinds: &[Kind],
    spare: &mut Caller,
    mut random: StdRng,
    stop: &impl Fn() -> bool,
) {
    let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.suits(environment)).collect();
    let mut round: Vec<Kind> = Vec::new();
    sleep(Duration::from_secs(1)).await;
    while !stop() {
        // Every kind once before any comes again.
        if round.is_empty() {
            round.clone_from(&kinds);
            round.shuffle(&mut random);
        }
        let Some(kind) = round.pop() else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        eprintln!("{:>7.1} s  {}: {kind}", environment.elapsed().as_secs_f64(), environment.form);
        let outage = environment.waits.outage(Instant::now(), kind.to_string());
        let injected = kind.inject(environment, spare, &mut random).await;
        environment.waits.outage_ends(outage, Instant::now() + kind.recovery());
        if injected {
            let (over, waited_for) = (Instant::now(), environment.waits.waited_for());
            while !environment.waits.all_served(&waited_for) && over.elapsed() < RECOVERY && !stop()
            {
                sleep(Duration::from_millis(5)).await;
            }
            environment.counters.recovered(kind, over.elapsed());
            environment.servers.lock().await.restore(&mut random).await;
        }
        sleep(Duration::from_millis(random.random_range(0..700))).await;
    }
    environment.end();
}

/// Follows an instance over any gateway until everybody leaves.
async fn watch(environment: Arc<Environment>, number: usize, mut random: StdRng) -> View {
    let instance =
        if number < CROWDED { number } else { random.random_range(CROWDED..environment.instances) };
    let mut view = View::of(&format!("i-{instance}"), "");
    loop {
        let client = environment.client(&mut random);
        let left = tokio::select! {
            biased;
            () = environment.left() => return view,
            left = view.watch(&environment, client, true) => left,
        };
        if left == Left::Ended {
            environment.violation(
                Violation::Wrong,
                format!("W1: a stream that follows {} ended well", view.instance),
            );
        }
        sleep(Duration::from_millis(random.random_range(10..300))).await;
    }
}

async fn list(environment: &Environment, instance: &str) -> Option<Vec<Attachment>> {
    let request = ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        page_size: 500,
        ..Default::default()
    };
    let mut random = rand::rngs::StdRng::seed_from_u64(0);
    let listed = environment.client(&mut random).list_attachments(request).await.ok()?;
    Some(listed.into_inner().attachments)
}

/// A1, for all that is left: every attempt ends, and what ENS has in use is attached.
async fn settle(environment: &Arc<Environment>) {
    let began = Instant::now();
    for number in 0..environment.instances {
        let instance = format!("i-{number}");
        loop {
            let listed = list(environment, &instance).await;
            let open = listed.as_ref().map(|listed| differs(environment, &instance, listed));
            match open {
                Some(None) => break,
                _ if began.elapsed() < SETTLING => sleep(Duration::from_millis(200)).await,
                Some(Some(what)) => {
                    environment.violation(
                        Violation::Lost,
                        format!("A1: {what} on {instance}, after {SETTLING:?} of calm"),
                    );
                    break;
                }
                None => {
                    environment.violation(
                        Violation::Lost,
                        format!("{instance} cannot be listed, after {SETTLING:?} of calm"),
                    );
                    break;
                }
            }
        }
    }
}

fn differs(environment: &Environment, instance: &str, listed: &[Attachment]) -> Option<String> {
    let under_way = |attachment: &&Attachment| {
        !matches!(
            attachment.state(),
            State::Attached | State::Failed | State::Detached | State::Detaching
        )
    };
    if let Some(open) = listed.iter().find(under_way) {
        return Some(format!("{} is {:?}", open.network_interface_id, open.state()));
    }
    let shown: BTreeMap<_, _> = listed
        .iter()
        .map(|attachment| (&attachment.network_interface_id, attachment.state()))
        .collect();
    let enis = environment.stage.ens.world(|world, _| world.snapshot().enis);
    let here = enis.iter().filter(|eni| {
        let primary = eni.id.starts_with("eni-primary");
        eni.placement.status == EniStatus::InUse
            && eni.placement.instance.as_deref() == Some(instance)
            && !primary
    });
    let mut missing = here.filter(|eni| shown.get(&eni.id) != Some(&State::Attached));
    missing
        .next()
        .map(|eni| format!("{} is in use in ENS and shown as {:?}", eni.id, shown.get(&eni.id)))
}

/// W1: who followed an instance saw the last of each attachment.
async fn saw_the_last(environment: &Environment, view: &View) {
    let Some(listed) = list(environment, &view.instance).await else {
        return;
    };
    for attachment in listed {
        let seen = view.last.get(&attachment.network_interface_id).map(|seen| seen.revision);
        if seen.is_none_or(|seen| seen < attachment.revision) {
            let what =
                format!("{} at revision {}", attachment.network_interface_id, attachment.revision);
            environment.violation(
                Violation::Wrong,
                format!("W1: a watcher of {} saw {seen:?} and not {what}", view.instance),
            );
        }
    }
}

/// Whether there is a Python with what the tests need.
fn python() -> bool {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    here.exists() || std::env::var_os("ENI_GATEWAY_TEST_PYTHON").is_some()
}
