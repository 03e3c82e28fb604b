//! More callers than slots: the surplus is refused at once, and a busy instance does not affect the
//! others.

use std::time::Duration;

use eni_gateway::simulator::WorldFile;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::support::gateway::{
    Client, Replica, Stage, attach, eni, eventually, reason, try_attach, within,
};
use crate::support::redis::Server;

const PATIENT: Duration = Duration::from_secs(150);
const QUIET: usize = 9;

/// A crowd at one instance, and a few quiet ones beside it; the limit is far away.
async fn stage(crowd: usize) -> (Stage, Replica) {
    let names: Vec<String> = (0..2 * QUIET).map(|n| format!("i-quiet-{n}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("i-noisy");
    let stage =
        Stage::over(Server::start().await, WorldFile::simple(&names, 2 * QUIET + crowd)).await;
    let replica = stage.replica(&[("LIMIT__ENIS_PER_INSTANCE", "1000")]).await;
    (stage, replica)
}

/// One attach after the other, each to an instance of its own; how long each took.
async fn one_by_one(client: &Client, instances: std::ops::Range<usize>) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in instances {
        let began = Instant::now();
        let request = attach(&format!("i-quiet-{n}"), &eni(n + 1));
        try_attach(client, within(PATIENT, request)).await.unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took
}

/// Pages in memory, in MiB, from /proc.
fn resident(replica: &Replica) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{}/statm", replica.id())).unwrap();
    let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1024.0 / 1024.0
}

/// What became of a crowd, and of the quiet ones beside it.
struct Outcome {
    attached: usize,
    /// How long the refusals took, shortest first.
    refused: Vec<Duration>,
    alone: Vec<Duration>,
    beside: Vec<Duration>,
    /// Whether all of the quiet ones were through before the crowd was.
    overtaken: bool,
    resident: (f64, f64),
}

async fn crowded(callers: usize, connections: usize) -> Outcome {
    let (stage, replica) = stage(callers).await;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(replica.client().await);
    }
    let quiet = replica.client().await;
    let alone = one_by_one(&quiet, 0..QUIET).await;
    let before = resident(&replica);
    let crowd = (0..callers).map(|n| {
        let request = within(PATIENT, attach("i-noisy", &eni(2 * QUIET + n + 1)));
        let client = &clients[n % connections];
        async move {
            let began = Instant::now();
            (try_attach(client, request).await, began.elapsed())
        }
    });
    let crowd = async { (join_all(crowd).await, Instant::now()) };
    let beside = async {
        eventually("the crowd is not there", async || {
            stage.ens.journal().instance("i-noisy").applied > 0
        })
        .await;
        let beside = one_by_one(&quiet, QUIET..2 * QUIET).await;
        (beside, Instant::now(), resident(&replica))
    };
    let ((crowd, crowd_ended), (beside, beside_ended, during)) = tokio::join!(crowd, beside);
    let mut refused = Vec::new();
    for (answer, took) in &crowd {
        if let Err(failure) = answer {
            assert_eq!(reason(failure), "OVERLOADED");
            assert!(failure.1.retry_info().is_some());
            assert!(failure.0.metadata().contains_key("grpc-retry-pushback-ms"));
            refused.push(*took);
        }
    }
    refused.sort_unstable();
    let attached = callers - refused.len();
    assert_eq!(stage.ens.journal().instance("i-noisy").applied, attached as u64);
    Outcome {
        attached,
        refused,
        alone,
        beside,
        overtaken: beside_ended < crowd_ended,
        resident: (before, during.max(resident(&replica))),
    }
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_its_share_the_surplus_is_refused_and_the_others_have_their_turn() {
    let outcome = crowded(400, 4).await;
    assert!(outcome.attached >= 256, "a quarter of 1024 may wait: {}", outcome.attached);
    assert!(!outcome.refused.is_empty());
    // Nothing that waits for the crowd would be done before it.
    assert!(outcome.overtaken, "{:?}", outcome.beside);
}

/// `cargo nextest run --release --run-ignored only --no-capture -E 'test(e2e::overload::)'`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn five_thousand_callers_measured() {
    let outcome = crowded(5000, 50).await;
    let (alone, beside) = (median(&outcome.alone), median(&outcome.beside));
    println!(
        "5000 callers on one instance: {} attached, {} refused, the median after {:?}, the last after {:?}",
        outcome.attached,
        outcome.refused.len(),
        median(&outcome.refused),
        outcome.refused.last().unwrap(),
    );
    println!(
        "an attach elsewhere, median of {QUIET}: alone {alone:?}, beside them {beside:?} ({:.1} times), slowest {:?}",
        beside.as_secs_f64() / alone.as_secs_f64(),
        outcome.beside.last().unwrap(),
    );
    println!(
        "resident: {:.0} MiB before, {:.0} MiB at most seen",
        outcome.resident.0, outcome.resident.1
    );
}
