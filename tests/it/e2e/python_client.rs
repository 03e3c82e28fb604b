//! An independent client: attaches over two replicas, and every failure that is not ENS's refusal.

use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, Fault};
use serde_json::{Value, json};

use crate::support::gateway::{
    SLOW_ENS, Stage, attach as attach_request, eni, eventually, try_attach,
};
use crate::support::python::{
    PythonClient, attach, call, until_attached, within, within_at_gateway,
};

const ATTACH: Action = Action::AttachNetworkInterface;

fn code_and_reason(status: &Value) -> [&str; 2] {
    [&status["code"], &status["reason"]].map(|value| value.as_str().unwrap_or_default())
}

fn watch(target: &str, instance: &str, follow: bool) -> Value {
    call(target, "WatchAttachment", json!({ "instance_id": instance, "follow": follow }))
}

/// What a stream said of attachments, in its order.
fn attachments(watched: &Value) -> impl Iterator<Item = &Value> {
    watched["messages"].as_array().unwrap().iter().filter_map(|message| message.get("attachment"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_callers_and_their_watchers_over_two_replicas() {
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&["i-1"], 12).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let target = |n: usize| replicas[n % 2].address();
    // The watchers are there before there is anything to see, and stay until everything has ended.
    let watchers = [0, 1].map(|n| until_attached(10, within(120.0, watch(target(n), "i-1", true))));
    let attaches = (1..=12).map(|n| within(120.0, attach(target(n), "i-1", &eni(n))));
    let mut watched =
        python_client.call(&watchers.into_iter().chain(attaches).collect::<Vec<_>>()).await;
    let answers = watched.split_off(2);

    let (accepted, refused): (Vec<_>, Vec<_>) =
        (1..=12).zip(&answers).partition(|(_, answer)| answer["code"] == "OK");
    assert_eq!((accepted.len(), refused.len()), (10, 2), "{answers:#?}");
    for (_, status) in refused {
        assert_eq!(code_and_reason(status), ["RESOURCE_EXHAUSTED", "ENI_LIMIT_EXCEEDED"]);
        let details = &status["details"];
        assert_eq!(details["ErrorInfo"]["metadata"]["limit"], "10");
        assert!(
            details["RetryInfo"].is_object() && details["QuotaFailure"].is_object(),
            "{status:#}"
        );
    }
    for watched in &watched {
        let revisions: Vec<u64> = attachments(watched)
            .map(|seen| seen["revision"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(revisions.is_sorted_by(|one, next| one < next), "{revisions:?}");
        for (n, answer) in &accepted {
            let last =
                attachments(watched).filter(|seen| seen["network_interface_id"] == eni(*n)).last();
            let last = last.unwrap_or_else(|| panic!("{} was never seen: {watched:#}", eni(*n)));
            assert_eq!(last["state"], "STATE_ATTACHED");
            assert_eq!(last["uid"], answer["response"]["attachment"]["uid"]);
        }
    }

    let before = stage.ens.journal().instance("i-1");
    assert_eq!((before.applied, before.max_occupied, before.max_attach_processing), (10, 10, 1));
    let again: Vec<_> =
        accepted.iter().map(|(n, _)| attach(target(n + 1), "i-1", &eni(*n))).collect();
    for ((_, first), again) in accepted.iter().zip(python_client.call(&again).await) {
        assert_eq!(again["response"]["attachment"]["uid"], first["response"]["attachment"]["uid"]);
    }
    assert_eq!(
        stage.ens.journal().instance("i-1").attach_calls,
        before.attach_calls,
        "to repeat it sends nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_never_answered_nor_applied_is_reported() {
    let refuse = |status, code: &str| {
        let (code, message) = (code.to_owned(), String::new());
        Fault::next(ATTACH, Effect::Refuse { code, status, message })
    };
    let faults = [
        refuse(503, "ServiceUnavailable"),
        refuse(400, "ens.interface.error"),
        refuse(400, "SignatureNonceUsed"),
        Fault::next(ATTACH, Effect::Html { status: 502, apply: false }),
        Fault::next(ATTACH, Effect::NotJson { apply: false }),
        Fault::next(ATTACH, Effect::DropBefore),
        // Later than the caller waits.
        Fault::next(ATTACH, Effect::DropBefore).delay(Duration::from_millis(1700)),
    ];
    let names: Vec<String> = (0..2 * faults.len()).map(|n| format!("i-{n}")).collect();
    let instances: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&instances, instances.len()).await;
    // A send may be applied for so long that the hasty ones leave long before anything is settled.
    let replica = stage.replica(&[("ENS__REQUEST_VALIDITY", "12s")]).await;
    for n in 0..instances.len() {
        let fault = faults[n % faults.len()].clone();
        stage.ens.fault(fault.eni(eni(n + 1)).times(3));
    }
    // Each kind meets one caller who waits for the end, and one who does not.
    let patience = |n: usize| if n < faults.len() { 120.0 } else { 6.0 };
    let call = |n: usize| {
        within_at_gateway(patience(n), attach(replica.address(), instances[n], &eni(n + 1)))
    };
    let calls = (0..instances.len()).map(call);
    let statuses = python_client.call(&calls.collect::<Vec<_>>()).await;
    let (patient, hasty) = statuses.split_at(faults.len());
    for ((patient, hasty), fault) in patient.iter().zip(hasty).zip(&faults) {
        assert_eq!(
            code_and_reason(patient),
            ["UNAVAILABLE", "NOT_APPLIED"],
            "{fault:?}: {patient:#}"
        );
        assert_eq!(
            code_and_reason(hasty),
            ["DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN"],
            "{fault:?}: {hasty:#}"
        );
    }
    let journal = stage.ens.journal();
    for n in 0..instances.len() {
        assert_eq!(
            (journal.instance(instances[n]).attach_calls, journal.applied_to(&eni(n + 1))),
            (3, 0),
            "{:?}",
            faults[n % faults.len()]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_are_bad_or_contradict_are_named_by_every_rpc() {
    let mut python_client = PythonClient::start();
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[]).await;
    let target = replica.address();
    for bad in ["", "i{1}", "ü", "a\u{7}b"] {
        let pair = json!({ "instance_id": bad, "network_interface_id": "{}" });
        let page = json!({ "instance_id": bad, "page_size": -1 });
        let calls = [
            call(target, "AttachNetworkInterface", pair.clone()),
            call(target, "WatchAttachment", pair.clone()),
            call(target, "GetAttachment", pair),
            call(target, "ListAttachments", page),
        ];
        for (status, second) in python_client
            .call(&calls)
            .await
            .iter()
            .zip(["network_interface_id"; 3].iter().chain(&["page_size"]))
        {
            assert_eq!(
                code_and_reason(status),
                ["INVALID_ARGUMENT", "INVALID_FIELD"],
                "{status:#}"
            );
            let fields = status["details"]["BadRequest"]["field_violations"].as_array().unwrap();
            let fields: Vec<_> =
                fields.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
            assert_eq!(fields, ["instance_id", second], "{bad:?}");
        }
    }
    assert!(stage.ens.journal().calls.is_empty(), "nothing was sent");

    let pair = json!({ "instance_id": "i-1", "network_interface_id": "eni-0001" });
    let nothing =
        [call(target, "WatchAttachment", pair.clone()), call(target, "GetAttachment", pair)];
    for status in python_client.call(&nothing).await {
        assert_eq!(code_and_reason(&status), ["NOT_FOUND", "ATTACHMENT_NOT_FOUND"], "{status:#}");
    }
    let keyed = |eni: &str| {
        let mut keyed = attach(target, "i-1", eni);
        keyed["request"]["request_id"] = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c11".into();
        keyed
    };
    assert_eq!(python_client.call_one(keyed("eni-0001")).await["code"], "OK");
    let reused = python_client.call_one(keyed("eni-0002")).await;
    assert_eq!(code_and_reason(&reused), ["INVALID_ARGUMENT", "REQUEST_ID_REUSED"]);
    assert_eq!(reused["details"]["BadRequest"]["field_violations"][0]["field"], "request_id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_itself_cannot_do_now_is_reported_with_its_reason() {
    let mut python_client = PythonClient::start();
    let mut stage = Stage::new(&["i-1", "i-2"], 6).await;
    let (plain, mut leaving) = (stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await);
    let one_at_a_time = [
        ("GRPC__MAX_IN_FLIGHT", "1"),
        ("WATCH__MAX_STREAMS", "1"),
        ("WATCH__MAX_AGE", "5s"),
        ("WATCH__HEARTBEAT", "1s"),
    ];
    let tight = stage.replica(&[&one_at_a_time[..], &SLOW_ENS].concat()).await;
    // The client is up, and connected.
    for replica in [&plain, &tight] {
        python_client.call_one(attach(replica.address(), "", "")).await;
    }

    // One call holds the instance's lock, and the only place of its replica.
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay(Duration::from_secs(7)));
    let client = tight.client().await;
    let (holding, statuses) =
        tokio::join!(try_attach(&client, attach_request("i-1", "eni-0001")), async {
            eventually("never sent", async || {
                stage.ens.journal().instance("i-1").attach_processing == 1
            })
            .await;
            let late = within_at_gateway(2.0, attach(plain.address(), "i-1", "eni-0002"));
            python_client.call(&[late, attach(tight.address(), "i-2", "eni-0003")]).await
        });
    holding.unwrap();
    assert_eq!(code_and_reason(&statuses[0]), ["DEADLINE_EXCEEDED", "LOCK_WAIT"], "{statuses:#?}");
    assert_eq!(code_and_reason(&statuses[1]), ["UNAVAILABLE", "OVERLOADED"], "{statuses:#?}");
    assert!(statuses[1]["trailers"]["grpc-retry-pushback-ms"].is_string(), "{statuses:#?}");

    // Two streams where there is room for one; the one grows too old.
    let streams = python_client
        .call(&[watch(tight.address(), "i-1", true), watch(tight.address(), "i-1", true)])
        .await;
    let mut reasons: Vec<_> = streams.iter().map(code_and_reason).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [["UNAVAILABLE", "OVERLOADED"], ["UNAVAILABLE", "STREAM_TOO_OLD"]]);

    // Accepted, and taken back. Only the attachment shows it, because the call was answered before.
    stage.ens.fault(Fault::next(ATTACH, Effect::AcceptThenFail));
    assert_eq!(
        python_client.call_one(attach(plain.address(), "i-2", "eni-0004")).await["code"],
        "OK"
    );
    let watched = python_client.call_one(watch(plain.address(), "i-2", false)).await;
    let error = &attachments(&watched).last().unwrap()["error"];
    assert_eq!(
        (&error["reason"], &error["code"]),
        (&"ATTACH_FAILED".into(), &10.into()),
        "{watched:#}"
    );

    let calls = [watch(leaving.address(), "i-1", true)];
    let (ended, ()) = tokio::join!(python_client.call(&calls), async {
        eventually("no stream", async || leaving.metric("eni_gateway_watch_streams").await == 1.0)
            .await;
        leaving.terminate().await;
    });
    assert_eq!(code_and_reason(&ended[0]), ["UNAVAILABLE", "DRAINING"], "{ended:#?}");

    let sent = stage.ens.journal().calls_of(ATTACH);
    stage.redis.down();
    let calls = [
        within_at_gateway(2.0, attach(plain.address(), "i-1", "eni-0005")),
        within_at_gateway(2.0, watch(plain.address(), "i-9", true)),
    ];
    for status in python_client.call(&calls).await {
        assert_eq!(
            code_and_reason(&status),
            ["UNAVAILABLE", "COORDINATION_UNAVAILABLE"],
            "{status:#}"
        );
    }
    // Back, and empty.
    stage.redis.up().await;
    eventually("not reached again", async || plain.metric("eni_gateway_ledger_up").await == 1.0)
        .await;
    let status = python_client
        .call_one(within_at_gateway(2.5, attach(plain.address(), "i-1", "eni-0005")))
        .await;
    assert_eq!(code_and_reason(&status), ["UNAVAILABLE", "COORDINATION_RECOVERING"], "{status:#}");
    assert!(status["details"]["RetryInfo"].is_object());
    assert_eq!(stage.ens.journal().calls_of(ATTACH), sent, "nothing was sent");
    let after =
        python_client.call_one(within(120.0, attach(plain.address(), "i-1", "eni-0005"))).await;
    assert_eq!(after["code"], "OK", "{after:#}");

    let throttle = Effect::Throttle { retry_after: Some(Duration::from_secs(30)) };
    stage.ens.fault(Fault::next(ATTACH, throttle));
    let status = python_client
        .call_one(within_at_gateway(5.0, attach(plain.address(), "i-1", "eni-0006")))
        .await;
    assert_eq!(code_and_reason(&status), ["UNAVAILABLE", "ENS_THROTTLED"], "{status:#}");
    assert_eq!(
        status["details"]["ErrorInfo"]["metadata"]["ensCode"], "Throttling.User",
        "{status:#}"
    );
    assert!(status["details"]["RetryInfo"].is_object());
}
