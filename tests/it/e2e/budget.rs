//! The account's budget, measured at ENS.

use std::time::Duration;

use eni_gateway::grpc::proto::ListAttachmentsRequest;
use eni_gateway::simulator::{Action, CallJournal, WorldFile};
use futures_util::future::join_all;
use rstest::rstest;
use tokio::time::Instant;

use crate::support::gateway::{
    Replica, Stage, attach, eni, eventually, reason, try_attach, within,
};
use crate::support::redis::Server;

const PATIENT: Duration = Duration::from_secs(100);

/// When each attach came to ENS, in ms.
fn arrivals(journal: &CallJournal) -> Vec<u64> {
    let calls = journal.calls.iter();
    let attaches = calls.filter(|call| call.action == Action::AttachNetworkInterface.name());
    let mut times: Vec<u64> = attaches.map(|call| call.at_ms).collect();
    times.sort_unstable();
    times
}

/// How many attaches `arrivals` has too many: none may come before the bucket, full at `from_ms`,
/// holds a token for it. An attach that is held up on its way comes late, so that a busy machine
/// can only hide one.
fn too_early(arrivals: &[u64], per_second: usize, from_ms: u64) -> usize {
    let burst = (per_second as f64 / 5.0).max(1.5);
    let granted_by = |at: u64| burst + (at - from_ms) as f64 / 1000.0 * per_second as f64;
    // A millisecond's rounding at either end.
    let early = |(before, at): &(usize, &u64)| (before + 1) as f64 > granted_by(**at + 2);
    arrivals.iter().enumerate().filter(early).count()
}

/// Saturates replicas for `seconds`, all callers there from the start; the rate at which attaches
/// came.
async fn measured(replicas: usize, per_second: usize, seconds: usize) -> f64 {
    let per_instance = 5;
    // More than are looked at, for the last instances end one by one.
    let callers = per_second * (seconds + 4);
    let names: Vec<String> =
        (0..callers.div_ceil(per_instance)).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over(Server::start().await, WorldFile::simple(&names, callers)).await;
    let rate = per_second.to_string();
    let mut running = Vec::new();
    for _ in 0..replicas {
        running.push(stage.replica(&[("ENS__ATTACH_PER_SECOND", rate.as_str())]).await);
    }
    let mut clients = Vec::new();
    for replica in &running {
        clients.push(replica.client().await);
    }
    let calls = (0..callers).map(|n| {
        let request = attach(names[n % names.len()], &eni(n + 1));
        try_attach(&clients[n % replicas], within(PATIENT, request))
    });
    let began = stage.ens.world(|world, now| world.millis(now));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let times = arrivals(&stage.ens.journal());
    assert_eq!(too_early(&times, per_second, began), 0, "from {began}: {times:?}");
    assert_eq!(times.len(), callers);
    // After the burst at the beginning.
    let saturated = &times[per_second..per_second * (seconds + 1)];
    let took = (saturated[saturated.len() - 1] - saturated[0]) as f64 / 1000.0;
    let rate = (saturated.len() - 1) as f64 / took;
    println!(
        "{replicas} replica(s) at {per_second}/s: {rate:.2} attaches a second came to ENS over {took:.1} s"
    );
    rate
}

#[rstest]
#[case::one_replica(1)]
#[case::three_replicas(3)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaches_come_at_the_configured_rate_and_never_faster(#[case] replicas: usize) {
    let rate = measured(replicas, 10, 10).await;
    // A busy machine loses tokens. What it comes to on a quiet one: docs/reports/.
    assert!(rate > 3.0, "{rate} a second at 10/s");
}

/// `cargo nextest run --run-ignored only --no-capture -E 'test(e2e::budget::)'`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement of two minutes"]
async fn rates_measured() {
    for (replicas, per_second, seconds) in
        [(1, 5, 20), (3, 5, 20), (1, 50, 20), (3, 50, 20), (1, 300, 5), (3, 300, 5)]
    {
        let rate = measured(replicas, per_second, seconds).await / per_second as f64;
        assert!((0.95..1.05).contains(&rate), "{replicas} at {per_second}/s: {rate}");
    }
}

#[rstest]
#[case::on_the_same_replica(1)]
#[case::over_two_replicas(2)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_one_instance_leaves_the_other_instances_their_turn(#[case] replicas: usize) {
    const CROWD: usize = 40;
    let stage =
        Stage::over(Server::start().await, WorldFile::simple(&["i-noisy", "i-quiet"], CROWD + 1))
            .await;
    let settings = [("ENS__ATTACH_PER_SECOND", "4"), ("LIMIT__ENIS_PER_INSTANCE", "100")];
    let mut running: Vec<Replica> = Vec::new();
    for _ in 0..replicas {
        running.push(stage.replica(&settings).await);
    }
    let (noisy, quiet) = (running[0].client().await, running[replicas - 1].client().await);
    let crowd = join_all(
        (1..=CROWD).map(|n| try_attach(&noisy, within(PATIENT, attach("i-noisy", &eni(n))))),
    );
    let alone = async {
        eventually("the crowd is not served", async || arrivals(&stage.ens.journal()).len() >= 5)
            .await;
        let before = arrivals(&stage.ens.journal()).len();
        try_attach(&quiet, within(PATIENT, attach("i-quiet", &eni(CROWD + 1)))).await.unwrap();
        arrivals(&stage.ens.journal()).len() - before
    };
    let (crowd, sends) = tokio::join!(crowd, alone);
    // Its own, and what was sent of the crowd's while it was on its way: one or two on a quiet
    // machine. Not the crowd.
    println!(
        "{replicas} replica(s): {sends} attaches until the quiet one's was sent, its own included"
    );
    assert!(sends <= CROWD / 2, "{sends} attaches until the quiet one's was sent");
    for answer in crowd {
        answer.unwrap();
    }
    assert_eq!(arrivals(&stage.ens.journal()).len(), CROWD + 1);
}

/// How a token that comes too late for a caller goes to the next one. In virtual time:
/// `rate_limit`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_whose_deadline_comes_before_the_next_token_is_refused_at_once_and_takes_none() {
    const ROUNDS: usize = 12;
    let names: Vec<String> = (1..=3 * ROUNDS).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::new(&names, 3 * ROUNDS).await;
    let replica = stage.replica(&[("ENS__ATTACH_PER_SECOND", "1")]).await;
    let client = replica.client().await;
    let call =
        |n: usize, deadline| try_attach(&client, within(deadline, attach(names[n - 1], &eni(n))));
    // On a busy machine, or with the burst of the beginning, the next token may be there before the
    // deadline: then once more.
    let quick = Duration::from_millis(400);
    for round in 0..ROUNDS {
        let [first, hasty, next] = [1, 2, 3].map(|n| 3 * round + n);
        call(first, PATIENT).await.unwrap();
        let began = Instant::now();
        let answer = call(hasty, Duration::from_millis(600)).await;
        let at_once = began.elapsed() < quick;
        let Some(failure) = answer.err().filter(|failure| reason(failure) == "ENS_THROTTLED")
        else {
            continue;
        };
        assert!(failure.1.retry_info().is_some());
        // The token that it did not take is the next one's.
        call(next, PATIENT).await.unwrap();
        assert_eq!(stage.ens.journal().instance(names[hasty - 1]).attach_calls, 0);
        let times = arrivals(&stage.ens.journal());
        let [.., before, after] = times[..] else { panic!("{times:?}") };
        if at_once && after - before < 1500 {
            return;
        }
    }
    panic!("never at once, or it took a token: {:?}", arrivals(&stage.ens.journal()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_in_closed_loops_leave_attaches_their_describes() {
    const READERS: usize = 8;
    let names: Vec<String> = (0..400).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over(Server::start().await, WorldFile::simple(&names, READERS)).await;
    let replica = stage.replica(&[("ENS__DESCRIBE_PER_SECOND", "20")]).await;
    let client = replica.client().await;
    // Each reads unknown instances, one after the other and without a pause.
    let readers = join_all((0..READERS).map(|reader| {
        let (mut client, unasked) =
            (client.clone(), names[READERS..].iter().skip(reader).step_by(READERS));
        async move {
            for instance in unasked.cycle() {
                let request = ListAttachmentsRequest {
                    instance_id: (*instance).to_owned(),
                    ..ListAttachmentsRequest::default()
                };
                // Served or not: it takes what it gets.
                let _ = client.list_attachments(request).await;
            }
        }
    }));
    let attaches = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let calls = (0..READERS)
            .map(|n| try_attach(&client, within(PATIENT, attach(names[n], &eni(n + 1)))));
        let began = Instant::now();
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        began.elapsed()
    };
    let took = tokio::select! {
        biased;
        took = attaches => took,
        _ = readers => panic!("readers never end"),
    };
    // Seven and a half describes a second are theirs; the rest is a busy machine.
    assert!(took < Duration::from_secs(15), "{took:?}");
}
