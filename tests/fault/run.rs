//! A run: arenas side by side, faults one after another in each, then calm, then the verdict.

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
use crate::arena::{Arena, CROWDED, Plan};
use crate::callers::{Caller, homes};
use crate::episode::Finding;
use crate::faults::{self, Kind};
use crate::others::{self, FOREIGN, READERS};
use crate::report;
use crate::support::gateway::eni;
use crate::view::{Left, View};

/// How long everybody who waits may take to be served after a fault. Longer than a hold.
const RECOVERY: Duration = Duration::from_secs(45);
/// How long attempts may be under way in a calm world.
const SETTLING: Duration = Duration::from_secs(120);
const WATCHERS: usize = 6;
/// Callers through grpcio.
const GRPCIO: usize = 2;
/// Longest that somebody may wait for an instance while nobody is served there, outside of faults and what they leave behind: a lease
/// that was not given back, a grant on trial, an Attach and a describe that go unanswered, and polls; twice that on a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    let faketime = faketime();
    println!("seed {seed}, {} callers over each of {:?}", args.callers, args.ledger);
    if faketime.is_none() {
        println!("no clock jumps or steps: libfaketime is not installed");
    }
    if !python() {
        println!("nobody calls through grpcio, and no Redis' clock steps: there is no .venv (`tests/run` makes it)");
    }
    let plans = args.ledger.iter().map(|form| Plan {
        form: *form,
        instances: args.instances,
        callers: args.callers,
        without: args.without,
        python: python(),
        faketime: faketime.clone(),
    });
    let mut arenas = Vec::new();
    for plan in plans {
        arenas.push(Arena::start(&plan).await);
    }
    let began = Instant::now();
    let kinds = match args.kinds.is_empty() {
        true => Kind::value_variants().to_vec(),
        false => args.kinds.clone(),
    };
    let stop = || began.elapsed() >= args.lasts || (args.without.is_some() && found(&arenas).next().is_some());
    let lives = arenas.iter().enumerate().map(|(number, arena)| {
        let seed = seed + number as u64 * 10_000;
        live(arena, &kinds, args.callers, seed, &stop)
    });
    let progress = async {
        while !arenas.iter().all(|arena| arena.is_ending()) {
            sleep(Duration::from_secs(10)).await;
            report::progress(began.elapsed(), &arenas);
        }
    };
    tokio::join!(join_all(lives), progress);
    report::table(&args, seed, began.elapsed(), &arenas);
    match found(&arenas).next() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

fn found(arenas: &[Arc<Arena>]) -> impl Iterator<Item = (Finding, String)> {
    arenas.iter().flat_map(|arena| arena.findings())
}

/// One arena, until `stop` says so, and then to its end.
async fn live(arena: &Arc<Arena>, kinds: &[Kind], callers: usize, seed: u64, stop: &impl Fn() -> bool) {
    let tasks = TaskTracker::new();
    let limit = tasks.spawn(arena.clone().watch_limit());
    let callers: Vec<_> = (0..callers)
        .map(|number| {
            let mut caller = Caller::new(arena, eni(number + 1), seed + 100 + number as u64);
            if arena.python && number < GRPCIO {
                caller = caller.over_grpcio();
            }
            tasks.spawn(caller.run(homes(number, arena.instances, CROWDED)))
        })
        .collect();
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|number| {
            tasks.spawn(watch(
                arena.clone(),
                number,
                StdRng::seed_from_u64(seed + 1 + number as u64),
            ))
        })
        .collect();
    let standing = tasks.spawn(arena.clone().watch_standing());
    let random = |number: usize| StdRng::seed_from_u64(seed + 50 + number as u64);
    let readers = (0..READERS).map(|number| tasks.spawn(others::read(arena.clone(), random(number))));
    let foreign = (1..=FOREIGN).map(|number| {
        let own = eni(arena.callers + 1 + number);
        tasks.spawn(others::attach(arena.clone(), own, random(READERS + number)))
    });
    let others: Vec<_> = readers.chain(foreign).collect();
    let mut spare = Caller::new(arena, eni(callers.len() + 1), seed + 99);
    let troubles = trouble(arena, kinds, &mut spare, StdRng::seed_from_u64(seed), stop);
    tokio::join!(troubles, faults::weather(arena, StdRng::seed_from_u64(seed + 98)));
    for caller in callers {
        caller.await.unwrap();
    }
    for other in others {
        other.await.unwrap();
    }
    standing.await.unwrap();
    let (longest, instance) = arena.waits.longest_outside();
    if longest > LONGEST_WAIT {
        let what = format!("P1: {longest:.1?} outside of faults nobody was served on {instance}, and somebody waited");
        arena.finding(Finding::Late, what);
    }
    settle(arena).await;
    arena.leave();
    for watcher in watchers {
        let view = watcher.await.unwrap();
        saw_the_last(arena, &view).await;
    }
    limit.await.unwrap();
    for number in 0..arena.gateways.len() {
        arena.ask_gateway(number).await;
        let counted = arena.gateways[number]
            .metric("eni_gateway_invariant_violations_total")
            .await;
        if counted > 0.0 {
            arena.finding(
                Finding::Violation,
                format!("gateway {number} counts {counted} violations"),
            );
        }
    }
}

/// One fault after another, each when everybody who waited was served again.
async fn trouble(arena: &Arc<Arena>, kinds: &[Kind], spare: &mut Caller, mut random: StdRng, stop: &impl Fn() -> bool) {
    let kinds: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.suits(arena)).collect();
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
        eprintln!("{:>7.1} s  {}: {kind}", arena.elapsed().as_secs_f64(), arena.form);
        let began = Instant::now();
        let struck = kind.strike(arena, spare, &mut random).await;
        arena.waits.outage(began, Instant::now() + kind.recovery());
        if struck {
            let (over, waited_for) = (Instant::now(), arena.waits.waited_for());
            while !arena.waits.all_served(&waited_for) && over.elapsed() < RECOVERY && !stop() {
                sleep(Duration::from_millis(5)).await;
            }
            arena.tally.recovered(kind, over.elapsed());
            arena.servers.lock().await.mend().await;
        }
        sleep(Duration::from_millis(random.random_range(0..700))).await;
    }
    arena.end();
}

/// Follows an instance over any gateway until everybody leaves.
async fn watch(arena: Arc<Arena>, number: usize, mut random: StdRng) -> View {
    let instance = match number < CROWDED {
        true => number,
        false => random.random_range(CROWDED..arena.instances),
    };
    let mut view = View::of(&format!("i-{instance}"), "");
    loop {
        let client = arena.client(&mut random);
        let left = tokio::select! {
            biased;
            () = arena.left() => return view,
            left = view.watch(&arena, client, true) => left,
        };
        if left == Left::Ended {
            arena.finding(
                Finding::Wrong,
                format!("W1: a stream that follows {} ended well", view.instance),
            );
        }
        sleep(Duration::from_millis(random.random_range(10..300))).await;
    }
}

async fn list(arena: &Arena, instance: &str) -> Option<Vec<Attachment>> {
    let request = ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        page_size: 500,
        ..Default::default()
    };
    let mut random = rand::rngs::StdRng::seed_from_u64(0);
    let listed = arena.client(&mut random).list_attachments(request).await.ok()?;
    Some(listed.into_inner().attachments)
}

/// A1, for all that is left: nothing is under way for ever, and what ENS has in use is attached.
async fn settle(arena: &Arc<Arena>) {
    let began = Instant::now();
    for number in 0..arena.instances {
        let instance = format!("i-{number}");
        loop {
            let listed = list(arena, &instance).await;
            let open = listed.as_ref().map(|listed| differs(arena, &instance, listed));
            match open {
                Some(None) => break,
                _ if began.elapsed() < SETTLING => sleep(Duration::from_millis(200)).await,
                Some(Some(what)) => {
                    arena.finding(
                        Finding::Lost,
                        format!("A1: {what} on {instance}, after {SETTLING:?} of calm"),
                    );
                    break;
                }
                None => {
                    arena.finding(
                        Finding::Lost,
                        format!("{instance} cannot be listed, after {SETTLING:?} of calm"),
                    );
                    break;
                }
            }
        }
    }
}

fn differs(arena: &Arena, instance: &str, listed: &[Attachment]) -> Option<String> {
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
    let enis = arena.stage.ens.world(|world, _| world.snapshot().enis);
    let here = enis.iter().filter(|eni| {
        let primary = eni.id.starts_with("eni-primary");
        eni.placement.status == EniStatus::InUse && eni.placement.instance.as_deref() == Some(instance) && !primary
    });
    let mut missing = here.filter(|eni| shown.get(&eni.id) != Some(&State::Attached));
    missing
        .next()
        .map(|eni| format!("{} is in use in ENS and shown as {:?}", eni.id, shown.get(&eni.id)))
}

/// W1: who followed an instance saw the last of each attachment.
async fn saw_the_last(arena: &Arena, view: &View) {
    let Some(listed) = list(arena, &view.instance).await else {
        return;
    };
    for attachment in listed {
        let seen = view
            .last
            .get(&attachment.network_interface_id)
            .map(|seen| seen.revision);
        if seen.is_none_or(|seen| seen < attachment.revision) {
            let what = format!(
                "{} at revision {}",
                attachment.network_interface_id, attachment.revision
            );
            arena.finding(
                Finding::Wrong,
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

/// Debian's libfaketime.
fn faketime() -> Option<String> {
    let found = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    libraries
        .find(|path| path.exists())
        .map(|path| path.display().to_string())
}
