//! Attachments in the ledger that ENS no longer shows: no call is answered from the outdated state.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, DurationRange, EniStatus, Placement, WorldRules};

use crate::support::gateway::{
    Replica, Stage, attach, eni, get, reason, try_attach, watch, within,
};

const ATTACH: Action = Action::AttachNetworkInterface;

/// Attached, and detached past the gateway within the lag.
async fn attached_and_detached(stage: &Stage, replica: &Replica) {
    stage.ens.world(|world, _| {
        let (lag_by_id, lag_by_instance) =
            (DurationRange::fixed(Duration::ZERO), DurationRange::fixed(Duration::ZERO));
        let rules = world.rules().clone();
        world.set_rules(WorldRules { lag_by_id, lag_by_instance, ..rules });
    });
    let client = replica.client().await;
    try_attach(&client, attach("i-1", &eni(1))).await.unwrap();
    let seen = watch(&client, "i-1", &eni(1), 0).await.unwrap();
    assert_eq!(seen.last().unwrap().state(), State::Attached);
    stage.ens.world(|world, now| world.force(&eni(1), Placement::default(), now).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eni_that_was_detached_past_the_gateway_is_attached_again_and_not_affirmed() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[("ENS__VISIBILITY_LAG", "4s")]).await;
    let client = replica.client().await;
    attached_and_detached(&stage, &replica).await;
    let again = within(Duration::from_secs(90), attach("i-1", &eni(1)));
    try_attach(&client, again).await.unwrap();
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 2, "it was sent again");
    let seen = watch(&client, "i-1", &eni(1), 0).await.unwrap();
    assert_eq!(seen.last().unwrap().state(), State::Attached);
    let placed = stage.ens.world(|world, _| world.snapshot().enis[0].placement.status.clone());
    assert_eq!(placed, EniStatus::InUse, "the watch ended with the truth");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_time_for_the_lag_the_outcome_is_unknown() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[("ENS__VISIBILITY_LAG", "60s")]).await;
    let client = replica.client().await;
    attached_and_detached(&stage, &replica).await;
    let again = within(Duration::from_secs(8), attach("i-1", &eni(1)));
    let refused = try_attach(&client, again).await.unwrap_err();
    assert_eq!(reason(&refused), "OUTCOME_UNKNOWN");
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 1, "it sent nothing");
    assert_eq!(get(&client, "i-1", &eni(1)).await.unwrap().state(), State::Attached);
    // A watch of the pair stays open.
    let watched =
        tokio::time::timeout(Duration::from_secs(3), watch(&client, "i-1", &eni(1), 0)).await;
    assert!(watched.is_err(), "{watched:?}");
}
