//! `validate_only`: predicts an attach's result, and changes nothing.

use eni_gateway::grpc::proto::AttachNetworkInterfaceRequest;
use eni_gateway::simulator::{Action, EniStatus, Placement, WorldFile};
use futures_util::future::join_all;
use tonic_types::StatusExt;

use crate::support::gateway::{Client, Stage, attach, eni, reason, try_attach};
use crate::support::redis::Server;

const REQUEST_ID: &str = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c11";

/// The checks that passed, or the reason of the refusal.
async fn validate(
    client: &Client,
    mut request: AttachNetworkInterfaceRequest,
) -> Result<Vec<String>, String> {
    request.validate_only = true;
    match client.clone().attach_network_interface(request).await {
        Ok(response) => {
            let response = response.into_inner();
            assert!(
                response.attachment.is_none() && response.ens_request_id.is_empty(),
                "{response:?}"
            );
            Ok(response.checks)
        }
        Err(status) => {
            let details = status.get_error_details();
            Err(reason(&(status, details)))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_nothing_and_says_what_it_looked_at() {
    let stage = Stage::new(&["i-1"], 12).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    // More than there is room for: none of them takes a place.
    for checks in join_all((1..=12).map(|n| validate(&client, attach("i-1", &eni(n))))).await {
        let checks = checks.unwrap();
        for about in ["fields", "identity", "slots", "instance", "eni", "network"] {
            assert!(checks.iter().any(|check| check.starts_with(about)), "{about}: {checks:?}");
        }
    }
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 0);
    for answer in join_all((1..=10).map(|n| try_attach(&client, attach("i-1", &eni(n))))).await {
        answer.unwrap();
    }
    assert_eq!(
        validate(&client, attach("i-1", &eni(11))).await,
        Err("ENI_LIMIT_EXCEEDED".to_owned())
    );
    let here = validate(&client, attach("i-1", &eni(1))).await.unwrap();
    assert!(here.iter().any(|check| check.starts_with("eni")), "{here:?}");
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_refuses_for_what_an_attach_would_be_refused_for() {
    let stage = Stage::over(Server::start().await, WorldFile::default_world()).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    stage.ens.world(|world, now| {
        for (eni, status, instance) in [
            ("eni-0001", EniStatus::InUse, "i-stopped-2"),
            ("eni-0002", EniStatus::Attaching, "i-stopped-2"),
            ("eni-0003", EniStatus::Detaching, "i-stopped-1"),
        ] {
            world.force(eni, Placement::on(status, instance), now).unwrap();
        }
    });
    // A describe need not show yet what was changed just now: longer than the lag of this world,
    // however much longer.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    let keyed = |eni: &str| AttachNetworkInterfaceRequest {
        request_id: REQUEST_ID.to_owned(),
        ..attach("i-stopped-3", eni)
    };
    try_attach(&client, keyed("eni-0030")).await.unwrap();
    let sent = stage.ens.journal().calls_of(Action::AttachNetworkInterface);
    for (request, expected) in [
        (attach("", "eni-0010"), "INVALID_FIELD"),
        (attach("i-nowhere", "eni-0010"), "INSTANCE_NOT_FOUND"),
        (attach("i-running", "eni-0010"), "INSTANCE_NOT_STOPPED"),
        (attach("i-other-network", "eni-0010"), "NETWORK_MISMATCH"),
        (attach("i-full", "eni-0010"), "ENI_LIMIT_EXCEEDED"),
        (attach("i-stopped-1", "eni-nowhere"), "ENI_NOT_FOUND"),
        (attach("i-stopped-1", "eni-primary-i-stopped-2"), "ENI_TYPE_NOT_SUPPORTED"),
        (attach("i-stopped-1", "eni-deleting"), "ENI_NOT_AVAILABLE"),
        (attach("i-stopped-1", "eni-0001"), "ENI_NOT_AVAILABLE"),
        (attach("i-stopped-1", "eni-0002"), "ENI_NOT_AVAILABLE"),
        (attach("i-stopped-1", "eni-0003"), "ENI_NOT_AVAILABLE"),
        (keyed("eni-0031"), "REQUEST_ID_REUSED"),
    ] {
        let refused = validate(&client, request.clone()).await;
        assert_eq!(refused, Err(expected.to_owned()), "{request:?}");
    }
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), sent);
}
