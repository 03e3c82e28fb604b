//! Redis missing at the start, missing later, or back without its data; ENS throttling.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault, WorldFile};
use tokio::time::Instant;

use crate::support::gateway::{
    Client, SLOW_ENS, Stage, attach, eventually, get, reason, try_attach, watch, within,
};
use crate::support::redis::Server;

const ATTACH: Action = Action::AttachNetworkInterface;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_not_waited_for() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    stage.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let patient = || within(Duration::from_secs(100), attach("i-1", "eni-0001"));
    let began = Instant::now();
    let failure = try_attach(&client, patient()).await.unwrap_err();
    assert_eq!(reason(&failure), "COORDINATION_UNAVAILABLE");
    assert!(failure.0.message().contains("maxmemory"), "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    stage.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    try_attach(&client, patient()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_away_at_the_start_and_in_between() {
    let world = WorldFile::simple(&["i-1"], 3);
    let mut stage = Stage::over(Server::stopped(&[]), world).await;
    // A hold-down of 18 s: what is asked during it has time.
    let replica = stage.spawn(&[("LEDGER__FAILOVER_WINDOW", "10s")]);
    eventually("not listening", async || replica.admin("/livez").await.is_some()).await;
    let client = replica.client().await;
    refused_in_time(&stage, &client, "eni-0001").await;
    assert_eq!(replica.admin("/readyz").await.unwrap().0, 503);

    stage.redis.up().await;
    replica.ready().await;
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();

    stage.redis.ask::<()>(&["SAVE"]).await;
    stage.redis.down();
    // The outcome of a commit on its way at that moment is unknown.
    let down = async || replica.metric("eni_gateway_ledger_up").await == 0.0;
    eventually("the loss is not noticed", down).await;
    refused_in_time(&stage, &client, "eni-0002").await;
    assert_eq!(
        replica.admin("/readyz").await.unwrap().0,
        200,
        "one blip must not empty the service"
    );
    // Known to be away for three seconds, it is not waited for any more.
    let patient = within(Duration::from_secs(100), attach("i-1", "eni-0002"));
    let began = Instant::now();
    let failure = try_attach(&client, patient).await.unwrap_err();
    assert_eq!(reason(&failure), "COORDINATION_UNAVAILABLE");
    assert!(failure.1.retry_info().is_some(), "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());

    // A restart may have lost the last writes: nothing is granted until that cannot matter any
    // more.
    stage.redis.up().await;
    let up = async || replica.metric("eni_gateway_ledger_up").await == 1.0;
    eventually("not reached again", up).await;
    let mut foreseen = attach("i-1", "eni-0002");
    foreseen.validate_only = true;
    let foreseen = try_attach(&client, within(Duration::from_secs(10), foreseen)).await;
    assert_eq!(reason(&foreseen.unwrap_err()), "COORDINATION_RECOVERING");
    let request = within(Duration::from_millis(2500), attach("i-1", "eni-0002"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "COORDINATION_RECOVERING")
    );
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 1);
    let request = within(Duration::from_secs(120), attach("i-1", "eni-0002"));
    try_attach(&client, request).await.unwrap();
    assert_eq!(stage.ens.journal().instance("i-1").max_occupied, 2);
}

async fn refused_in_time(stage: &Stage, client: &Client, eni: &str) {
    let (began, sent) = (Instant::now(), stage.ens.journal().calls_of(ATTACH));
    let failure =
        try_attach(client, within(Duration::from_secs(2), attach("i-1", eni))).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "COORDINATION_UNAVAILABLE")
    );
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(stage.ens.journal().calls_of(ATTACH), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_attach_is_sent_again_and_is_no_failure() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    let retry_after = Some(Duration::from_millis(400));
    stage.ens.fault(Fault::next(ATTACH, Effect::Throttle { retry_after }).times(2));
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 3);

    stage.ens.fault(Fault::next(
        ATTACH,
        Effect::Throttle { retry_after: Some(Duration::from_secs(30)) },
    ));
    let request = within(Duration::from_secs(8), attach("i-1", "eni-0002"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "ENS_THROTTLED")
    );
    assert!(failure.1.retry_info().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_written_down_when_redis_is_back() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&SLOW_ENS).await;
    let client = replica.client().await;
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay_answer(Duration::from_secs(3)));
    let outage = async {
        applied(&stage, "eni-0001").await;
        stage.redis.freeze();
        // ENS answers meanwhile, and the ledger does not.
        let answered = async || stage.ens.journal().attaches().count() == 1;
        eventually("ens does not answer", answered).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.redis.thaw();
    };
    let (answer, ()) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), outage);
    answer.unwrap();
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    assert!(!end.ens_request_id.is_empty(), "the answer was lost: {end:?}");
    try_attach(&client, attach("i-1", "eni-0002")).await.unwrap();
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_ends_while_redis_is_away_gets_what_ens_answered() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&SLOW_ENS).await;
    let client = replica.client().await;
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay_answer(Duration::from_secs(3)));
    let outage = async {
        applied(&stage, "eni-0001").await;
        stage.redis.freeze();
    };
    let request = within(Duration::from_secs(8), attach("i-1", "eni-0001"));
    let (answer, ()) = tokio::join!(try_attach(&client, request), outage);
    let attachment = answer.expect("ens accepted, and the gateway knows it");
    assert!(!attachment.ens_request_id.is_empty());
    stage.redis.thaw();
    let back = async || get(&client, "i-1", "eni-0001").await.is_ok();
    eventually("the ledger is not back", back).await;
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!((end.state(), end.uid), (State::Attached, attachment.uid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_forgot_everything_learns_it_from_ens() {
    let stage = Stage::new(&["i-1"], 5).await;
    let settings = [&[("LIMIT__ENIS_PER_INSTANCE", "3")], &SLOW_ENS[..]].concat();
    let replicas = [stage.replica(&settings).await, stage.replica(&settings).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    let first = try_attach(&clients[0], attach("i-1", "eni-0001")).await.unwrap();
    let seen = watch(&clients[1], "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!((&seen.uid, seen.state()), (&first.uid, State::Attached));
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay_answer(Duration::from_secs(3)));
    let loss = async {
        applied(&stage, "eni-0002").await;
        stage.redis.ask::<()>(&["FLUSHALL"]).await;
    };
    let (answer, ()) = tokio::join!(try_attach(&clients[0], attach("i-1", "eni-0002")), loss);
    answer.expect("ens accepted it");

    // Three callers for the one place that is left; they wait until what was forgotten cannot
    // matter any more.
    let request = |eni| within(Duration::from_secs(120), attach("i-1", eni));
    let answers = tokio::join!(
        try_attach(&clients[0], request("eni-0003")),
        try_attach(&clients[1], request("eni-0004")),
        try_attach(&clients[1], request("eni-0005")),
    );
    let answers = [answers.0, answers.1, answers.2];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(reason(refused), "ENI_LIMIT_EXCEEDED");
    }
    // Revisions rise through the loss.
    let after = watch(&clients[1], "i-1", "eni-0001", seen.revision).await.unwrap();
    assert!(after.iter().all(|attachment| attachment.revision > seen.revision), "{after:?}");
    let end = watch(&clients[0], "i-1", "eni-0002", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    assert!(end.revision > seen.revision);
    let counts = stage.ens.journal().instance("i-1");
    assert_eq!((counts.max_occupied, counts.applied), (3, 3));
}

async fn applied(stage: &Stage, eni: &str) {
    eventually("never sent", async || stage.ens.journal().applied_to(eni) == 1).await;
}
