//! Redis away at the start, away in between, back without its data; ENS throttling.

use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, Fault, WorldFile};
use tokio::time::Instant;

use crate::support::gateway::{Stage, attach, eventually, reason, try_attach, within};
use crate::support::redis::Server;

const ATTACH: Action = Action::AttachNetworkInterface;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_away_at_the_start_and_in_between() {
    let world = WorldFile::simple(&["i-1"], 3);
    let mut stage = Stage::over(Server::stopped(&[]), world).await;
    let replica = stage.spawn(&[]);
    eventually("not listening", async || replica.admin("/livez").await.is_some()).await;
    let client = replica.client().await;
    refused_in_time(&stage, &client, "eni-0001").await;
    assert_eq!(replica.admin("/readyz").await.unwrap().0, 503);

    stage.redis.up().await;
    replica.ready().await;
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();

    stage.redis.ask::<()>(&["SAVE"]).await;
    stage.redis.down();
    refused_in_time(&stage, &client, "eni-0002").await;
    assert_eq!(
        replica.admin("/readyz").await.unwrap().0,
        200,
        "one blip must not empty the service"
    );

    // A restart may have lost the last writes: nothing is granted until that cannot matter any more.
    stage.redis.up().await;
    let request = within(Duration::from_millis(2500), attach("i-1", "eni-0002"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "COORDINATION_RECOVERING")
    );
    assert_eq!(stage.ens.books().calls_of(ATTACH), 1);
    try_attach(&client, attach("i-1", "eni-0002")).await.unwrap();
    assert_eq!(stage.ens.books().instance("i-1").max_occupied, 2);
}

async fn refused_in_time(
    stage: &Stage,
    client: &eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient<tonic::transport::Channel>,
    eni: &str,
) {
    let (began, sent) = (Instant::now(), stage.ens.books().calls_of(ATTACH));
    let failure = try_attach(client, within(Duration::from_secs(2), attach("i-1", eni)))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "COORDINATION_UNAVAILABLE")
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(stage.ens.books().calls_of(ATTACH), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_attach_is_sent_again_and_is_no_failure() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    let retry_after = Some(Duration::from_millis(400));
    stage
        .ens
        .fault(Fault::next(ATTACH, Effect::Throttle { retry_after }).times(2));
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    assert_eq!(stage.ens.books().calls_of(ATTACH), 3);

    stage.ens.fault(Fault::next(
        ATTACH,
        Effect::Throttle {
            retry_after: Some(Duration::from_secs(30)),
        },
    ));
    let request = within(Duration::from_secs(2), attach("i-1", "eni-0002"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "ENS_THROTTLED")
    );
    assert!(failure.1.retry_info().is_some());
}
