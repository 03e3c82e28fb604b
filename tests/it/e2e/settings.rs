//! `serve` as an operator starts it: Kubernetes' variables are ignored, and all faults are reported
//! at once.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::support::gateway::{Stage, attach, try_attach};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_its_own_name_does_not_keep_it_from_starting() {
    let stage = Stage::new(&["i-1"], 1).await;
    let injected = [
        ("ENI_GATEWAY_SERVICE_HOST", "10.96.0.17"),
        ("ENI_GATEWAY_SERVICE_PORT", "50051"),
        ("ENI_GATEWAY_SERVICE_PORT_GRPC", "50051"),
        ("ENI_GATEWAY_PORT", "tcp://10.96.0.17:50051"),
        ("ENI_GATEWAY_PORT_50051_TCP", "tcp://10.96.0.17:50051"),
        ("ENI_GATEWAY_PORT_50051_TCP_PROTO", "tcp"),
        ("ENI_GATEWAY_PORT_50051_TCP_PORT", "50051"),
        ("ENI_GATEWAY_PORT_50051_TCP_ADDR", "10.96.0.17"),
    ];
    let replica = stage.replica(&injected).await;
    try_attach(&replica.client().await, attach("i-1", "eni-0001")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_links_to_its_published_explanation() {
    let stage = Stage::new(&["i-1"], 1).await;
    let published = [("GRPC__HELP_URL", "https://docs.example/errors")];
    let replica = stage.replica(&published).await;
    let refused = try_attach(&replica.client().await, attach("i-1", "eni-none")).await;
    let (_, details) = refused.unwrap_err();
    let link = &details.help().expect("a link").links[0];
    assert_eq!(link.url, "https://docs.example/errors#eni_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_said_at_once() {
    let serve = Command::new(env!("CARGO_BIN_EXE_eni-gateway"))
        .arg("serve")
        .env_clear()
        // Neither a profile nor a machine's role.
        .env("HOME", "/nonexistent")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .env("ENI_GATEWAY_LEDGER__URI", "redis://127.0.0.1/")
        .env("ENI_GATEWAY_LEDGER__LEASE", "2s")
        .env("ENI_GATEWAY_GRPC__LISTEN", "0.0.0.0:50051")
        .env("ENI_GATEWAY_ENS__ATTACH_PER_SECOND", "many")
        .env("ENI_GATEWAY_LIMIT__ENIS_PER_INSTANCE", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(Duration::from_secs(120), serve).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(64), "{said}");
    for fault in [
        "ENI_GATEWAY_LEDGER__URI",
        "ledger.url",
        "ledger.lease",
        "grpc.listen",
        "ens.attach_per_second",
        "limit.enis_per_instance",
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
    ] {
        assert!(said.contains(fault), "{fault} is not named:\n{said}");
    }
}
