//! From ENS's HTTP answer to the status that an independent client decodes: every documented code,
//! and unknown ones.

use std::time::Duration;

use eni_gateway::simulator::auth::AccessKey;
use eni_gateway::simulator::{Action, Effect, Fault, Settings, Simulator, World, WorldFile};
use jiff::SignedDuration;
use serde_json::Value;

use crate::support::gateway::{
    SLOW_ENS, Stage, attach, eni, eventually, reason, try_attach, within,
};
use crate::support::python::{self, PythonClient};

const ATTACH: Action = Action::AttachNetworkInterface;

/// What ENS answers, and what the caller gets: canonical code, reason, and the detail that goes
/// with it.
const TABLE: [(&str, u16, &str, &str, &str); 17] = [
    ("InvalidEniId.NotFound", 400, "NOT_FOUND", "ENI_NOT_FOUND", "ResourceInfo"),
    ("InstanceNotFound", 400, "NOT_FOUND", "INSTANCE_NOT_FOUND", "ResourceInfo"),
    (
        "InvalidParameter.InstanceId",
        400,
        "INVALID_ARGUMENT",
        "ENS_INVALID_PARAMETER",
        "RequestInfo",
    ),
    (
        "InvalidParameter.EniServiceManaged",
        400,
        "FAILED_PRECONDITION",
        "ENI_SERVICE_MANAGED",
        "PreconditionFailure",
    ),
    (
        "InvalidOperation.InvalidEniType",
        400,
        "FAILED_PRECONDITION",
        "ENI_TYPE_NOT_SUPPORTED",
        "PreconditionFailure",
    ),
    (
        "InvalidOperation.InstanceNotSupport",
        400,
        "FAILED_PRECONDITION",
        "INSTANCE_NOT_SUPPORTED",
        "PreconditionFailure",
    ),
    (
        "InvalidOperation.NetworkMismatch",
        400,
        "FAILED_PRECONDITION",
        "NETWORK_MISMATCH",
        "PreconditionFailure",
    ),
    (
        "InvalidOperation.InvalidEnsStatus",
        400,
        "FAILED_PRECONDITION",
        "INSTANCE_NOT_STOPPED",
        "PreconditionFailure",
    ),
    (
        "InvalidOperation.InvalidEniStatus",
        400,
        "FAILED_PRECONDITION",
        "ENI_NOT_AVAILABLE",
        "PreconditionFailure",
    ),
    ("NoPermission", 400, "INTERNAL", "ENS_PERMISSION_DENIED", "RequestInfo"),
    ("Forbidden.RAM", 403, "INTERNAL", "ENS_PERMISSION_DENIED", "RequestInfo"),
    ("SignatureDoesNotMatch", 400, "INTERNAL", "ENS_CREDENTIALS_REJECTED", "RequestInfo"),
    ("InvalidAccessKeyId.NotFound", 404, "INTERNAL", "ENS_CREDENTIALS_REJECTED", "RequestInfo"),
    ("InvalidTimeStamp.Expired", 400, "INTERNAL", "ENS_CREDENTIALS_REJECTED", "RequestInfo"),
    ("InvalidSecurityToken.Malformed", 400, "INTERNAL", "ENS_CREDENTIALS_REJECTED", "RequestInfo"),
    ("SomethingNew.AndStrange", 400, "UNKNOWN", "ENS_ERROR", "RequestInfo"),
    // Last: a limit that ENS enforces is believed for a while.
    (
        "EniPerInstanceLimitExceeded",
        400,
        "RESOURCE_EXHAUSTED",
        "ENI_LIMIT_EXCEEDED",
        "QuotaFailure",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_decodes_what_ens_answered() {
    let stage = Stage::new(&["i-1"], TABLE.len()).await;
    let replica = stage.replica(&[]).await;
    for (n, (code, status, ..)) in TABLE.iter().enumerate() {
        let effect = Effect::Refuse {
            code: (*code).to_owned(),
            status: *status,
            message: "as the page says.".to_owned(),
        };
        // Rejected credentials are refreshed, and tried once more.
        let rejected = ["InvalidSecurityToken", "InvalidAccessKeyId"]
            .iter()
            .any(|kind| code.starts_with(kind));
        let sends = 1 + u32::from(rejected);
        stage.ens.fault(Fault::next(ATTACH, effect).eni(eni(n + 1)).times(sends));
    }
    let mut python_client = PythonClient::start();
    let mut statuses = Vec::new();
    for n in 1..=TABLE.len() {
        let call = python::attach(replica.address(), "i-1", &eni(n));
        statuses.push(python_client.call_one(call).await);
    }
    for ((ens_code, _, code, reason, detail), status) in TABLE.iter().zip(&statuses) {
        assert_eq!(
            (&status["code"], &status["reason"]),
            (&Value::from(*code), &Value::from(*reason)),
            "{status:#}"
        );
        let details = &status["details"];
        let metadata = &details["ErrorInfo"]["metadata"];
        assert_eq!(details["ErrorInfo"]["domain"], "eni-gateway");
        assert_eq!(
            (&metadata["ensCode"], &metadata["instanceId"]),
            (&Value::from(*ens_code), &"i-1".into()),
            "{status:#}"
        );
        assert!(!metadata["ensRequestId"].as_str().unwrap_or_default().is_empty(), "{status:#}");
        assert_eq!(details["RequestInfo"]["request_id"], metadata["ensRequestId"]);
        assert!(details[detail].is_object(), "{detail}: {status:#}");
    }
    assert_eq!(stage.ens.journal().instance("i-1").applied, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_ens_itself_are_reported_exactly() {
    let world = WorldFile::default_world();
    let stage = Stage::over(crate::support::redis::Server::start().await, world).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    for (instance, eni, expected) in [
        ("i-running", "eni-0001", "INSTANCE_NOT_STOPPED"),
        ("i-unsupported", "eni-0001", "INSTANCE_NOT_SUPPORTED"),
        ("i-other-network", "eni-0001", "NETWORK_MISMATCH"),
        ("i-forbidden", "eni-0001", "ENS_PERMISSION_DENIED"),
        ("i-stopped-1", "eni-nowhere", "ENI_NOT_FOUND"),
        ("i-nowhere", "eni-0001", "INSTANCE_NOT_FOUND"),
        ("i-full", "eni-0001", "ENI_LIMIT_EXCEEDED"),
        ("i-stopped-1", "eni-primary-i-stopped-2", "ENI_TYPE_NOT_SUPPORTED"),
    ] {
        let failure = try_attach(&client, attach(instance, eni)).await.unwrap_err();
        assert_eq!(reason(&failure), expected, "{instance} {eni}: {failure:?}");
        // The same is foreseen without sending anything.
        let mut request = attach(instance, eni);
        request.validate_only = true;
        let sent = stage.ens.journal().calls_of(ATTACH);
        let foreseen = client.clone().attach_network_interface(request).await;
        if !matches!(expected, "INSTANCE_NOT_SUPPORTED" | "ENS_PERMISSION_DENIED") {
            let status = foreseen.unwrap_err();
            let details = tonic_types::StatusExt::get_error_details(&status);
            assert_eq!(reason(&(status, details)), expected, "{instance} {eni}");
        }
        assert_eq!(stage.ens.journal().calls_of(ATTACH), sent);
    }
    let mut request = attach("i-stopped-1", "eni-0001");
    request.validate_only = true;
    let checks =
        client.clone().attach_network_interface(request).await.unwrap().into_inner().checks;
    assert!(checks.len() >= 5, "{checks:?}");
    assert_eq!(stage.ens.journal().instance("i-stopped-1").applied, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_and_a_wrong_clock_are_the_gateways_own_fault_and_send_nothing() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    stage.ens.set_keys(vec![AccessKey::new("simulator-access-key-id", "another-secret")]);
    let failure = try_attach(&client, attach("i-1", "eni-0001")).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Internal, "ENS_CREDENTIALS_REJECTED")
    );
    assert!(!format!("{failure:?}").contains("simulator-secret"), "no secret in an error");

    let settings = Settings { clock_ahead: SignedDuration::from_secs(60), ..Settings::default() };
    let any = "127.0.0.1:0".parse().unwrap();
    let ahead =
        Simulator::start(any, World::new(WorldFile::simple(&["i-1"], 1)), settings).await.unwrap();
    let replica = stage.replica(&[("ENS__ENDPOINT", &ahead.endpoint())]).await;
    let client = replica.client().await;
    let failure = try_attach(&client, attach("i-1", "eni-0001")).await.unwrap_err();
    assert_eq!(reason(&failure), "ENS_CREDENTIALS_REJECTED");
    assert!(failure.0.message().contains("clock"), "{failure:?}");
    assert_eq!(ahead.journal().calls_of(ATTACH), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_another_is_reported_and_too_many_are_refused() {
    let stage = Stage::new(&["i-1"], 3).await;
    // One instance takes a quarter of the room.
    let settings = [&[("GRPC__MAX_IN_FLIGHT", "8")], &SLOW_ENS[..]].concat();
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay(Duration::from_secs(7)));
    let first = try_attach(&client, attach("i-1", "eni-0001"));
    let others = async {
        let processing = async || stage.ens.journal().instance("i-1").attach_processing == 1;
        eventually("never sent", processing).await;
        let waiting =
            try_attach(&client, within(Duration::from_secs(3), attach("i-1", "eni-0002")));
        let turned_away = async {
            eventually("it does not wait", async || {
                replica.metric("eni_gateway_attempts_in_flight").await == 2.0
            })
            .await;
            try_attach(&client, attach("i-1", "eni-0003")).await
        };
        tokio::join!(waiting, turned_away)
    };
    let (first, (waiting, turned_away)) = tokio::join!(first, others);
    first.unwrap();
    let waiting = waiting.unwrap_err();
    assert_eq!(
        (waiting.0.code(), reason(&waiting).as_str()),
        (tonic::Code::DeadlineExceeded, "LOCK_WAIT")
    );
    let turned_away = turned_away.unwrap_err();
    assert_eq!(
        (turned_away.0.code(), reason(&turned_away).as_str()),
        (tonic::Code::Unavailable, "OVERLOADED")
    );
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 1);
}
