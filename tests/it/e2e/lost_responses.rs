//! Lost or wrong answers: the caller receives the truth or "unknown", the record ends as ENS shows,
//! and ENS applies exactly one Attach.

use std::time::Duration;

use eni_gateway::grpc::proto::WatchAttachmentRequest;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::simulator::{Action, Effect, Fault};
use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::gateway::{
    Replica, SLOW_ENS, Stage, attach, eventually, get, reason, try_attach, watch, within,
};

const ATTACH: Action = Action::AttachNetworkInterface;

fn refuse(status: u16, code: &str) -> Effect {
    Effect::Refuse { code: code.to_owned(), status, message: String::new() }
}

fn conflict_applied(code: &str) -> Effect {
    let (code, message) = (code.to_owned(), String::new());
    Effect::RefuseApplied { code, status: 409, message, retry_after: None }
}

#[rstest]
#[case::the_reply_is_lost(Effect::DropAfter, 1)]
#[case::masked_as_an_interface_error(Effect::Mask, 1)]
#[case::a_page_of_html_after_applying(Effect::Html { status: 502, apply: true }, 1)]
#[case::a_page_of_html_before_applying(Effect::Html { status: 502, apply: false }, 2)]
#[case::reset_before_applying(Effect::DropBefore, 2)]
#[case::no_json(Effect::NotJson { apply: true }, 1)]
#[case::half_an_answer(Effect::Truncated, 1)]
#[case::an_interface_error_before_applying(refuse(400, "ens.interface.error"), 2)]
#[case::a_server_error(refuse(503, "ServiceUnavailable"), 2)]
#[case::a_conflict_before_applying(refuse(400, "Operation.Conflict"), 2)]
#[case::a_conflict_after_applying(conflict_applied("Operation.Conflict"), 1)]
#[case::another_conflict_after_applying(conflict_applied("TaskConflict"), 1)]
#[case::an_unlisted_code_after_applying(conflict_applied("EniLocked"), 1)]
#[case::applied_late(Effect::ApplyLate { after: Duration::from_millis(700) }, 1)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_attach_is_settled_from_what_ens_shows(
    #[case] effect: Effect,
    #[case] sends: u64,
) {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    stage.ens.fault(Fault::next(ATTACH, effect));
    let client = replica.client().await;
    let attachment = try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    assert!(matches!(attachment.state(), State::Attaching | State::Attached), "{attachment:?}");
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    assert!(end.transitions.iter().any(|transition| transition.state() == State::Verifying));
    let journal = stage.ens.journal();
    assert_eq!((journal.applied_to("eni-0001"), journal.calls_of(ATTACH)), (1, sends));
    assert_eq!(journal.instance("i-1").max_occupied, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_timeout_is_not_waited_for() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    // The attempt's timeout is 1.5 s.
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay_answer(Duration::from_secs(100)));
    let client = replica.client().await;
    let began = Instant::now();
    let request = within(Duration::from_secs(90), attach("i-1", "eni-0001"));
    try_attach(&client, request).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!((end.state(), end.ens_request_id.as_str()), (State::Attached, ""));
    assert_eq!(stage.ens.journal().instance("i-1").attach_calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_settled_in_time_is_unknown_and_continues() {
    let stage = Stage::new(&["i-1"], 1).await;
    // An unanswered attach is looked at after the lag: well after the caller's deadline.
    let replica = stage.replica(&[("ENS__VISIBILITY_LAG", "12s")]).await;
    stage.ens.fault(Fault::next(ATTACH, Effect::DropAfter));
    let client = replica.client().await;
    let request = within(Duration::from_secs(4), attach("i-1", "eni-0001"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::DeadlineExceeded, "OUTCOME_UNKNOWN")
    );
    // Calling again joins it.
    let joined = try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!((end.state(), &end.uid), (State::Attached, &joined.uid));
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_that_ens_never_applies_ends_as_not_applied_and_frees_its_slot() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[("LIMIT__ENIS_PER_INSTANCE", "1")]).await;
    stage.ens.fault(Fault::next(ATTACH, Effect::DropBefore).eni("eni-0001").times(3));
    let client = replica.client().await;
    let request = within(Duration::from_secs(120), attach("i-1", "eni-0001"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(
        (failure.0.code(), reason(&failure).as_str()),
        (tonic::Code::Unavailable, "NOT_APPLIED")
    );
    assert_eq!(get(&client, "i-1", "eni-0001").await.unwrap().state(), State::Failed);
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 3);
    try_attach(&client, attach("i-1", "eni-0002")).await.unwrap();
}

#[rstest]
#[case::after_a_while(Effect::AcceptThenFail)]
#[case::at_once(Effect::AcceptThenForget)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accepted_attach_that_ens_takes_back_fails(#[case] effect: Effect) {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    stage.ens.fault(Fault::next(ATTACH, effect));
    let client = replica.client().await;
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    let error = end.error.clone().unwrap();
    assert_eq!(
        (end.state(), error.reason.as_str(), error.code),
        (State::Failed, "ATTACH_FAILED", 10)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_between_send_and_answer_leaves_nothing_behind() {
    let stage = Stage::new(&["i-1"], 2).await;
    let (mut dying, living) = (stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await);
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay_answer(Duration::from_secs(10)));
    let (caller, elsewhere) = (dying.client().await, living.client().await);
    let request = WatchAttachmentRequest {
        instance_id: "i-1".to_owned(),
        follow: true,
        ..WatchAttachmentRequest::default()
    };
    let mut stream = caller.clone().watch_attachment(request).await.unwrap().into_inner();
    let watching = async {
        let mut seen = Vec::new();
        while let Ok(Some(message)) = stream.message().await {
            if let Some(Event::Attachment(attachment)) = message.event {
                seen.push((attachment.revision, attachment.state()));
            }
        }
        seen
    };
    let call = try_attach(&caller, attach("i-1", "eni-0001"));
    let killing = async {
        eventually("never sent", async || stage.ens.journal().applied_to("eni-0001") == 1).await;
        let watched = async || get(&elsewhere, "i-1", "eni-0001").await.is_ok();
        eventually("the reservation is not seen elsewhere", watched).await;
        dying.kill();
    };
    let (answer, seen, ()) = tokio::join!(call, watching, killing);
    assert!(answer.is_err(), "{answer:?}");
    assert!(seen.iter().all(|(_, state)| *state == State::Pending), "{seen:?}");

    // The watcher resumes elsewhere, and sees the end once.
    let before = seen.last().map_or(0, |(revision, _)| *revision);
    let resumed = watch(&elsewhere, "i-1", "eni-0001", before).await.unwrap();
    let ends = resumed.iter().filter(|attachment| attachment.state() == State::Attached);
    assert_eq!(ends.count(), 1, "{resumed:?}");
    assert!(resumed.iter().all(|attachment| attachment.revision > before), "{resumed:?}");
    // The lock is free once the lease is over.
    let request = within(Duration::from_secs(120), attach("i-1", "eni-0002"));
    try_attach(&elsewhere, request).await.unwrap();
    assert_eq!(stage.ens.journal().instance("i-1").max_attach_processing, 1);
    assert_eq!(stage.ens.journal().applied_to("eni-0001"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_leaves_the_attempt_to_its_end() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&SLOW_ENS).await;
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay(Duration::from_secs(5)));
    let client = replica.client().await;
    let call = try_attach(&client, attach("i-1", "eni-0001"));
    let sent = eventually("never sent", async || {
        stage.ens.journal().instance("i-1").attach_processing == 1
    });
    tokio::select! {
        biased;
        () = sent => {}
        answer = call => panic!("{answer:?}"),
    }
    let end = watch(&client, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached);
    assert_eq!(stage.ens.journal().applied_to("eni-0001"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_is_too_short_sends_nothing() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    for deadline in [1, 20, 100, 200] {
        let request = within(Duration::from_millis(deadline), attach("i-1", "eni-0001"));
        let failure = try_attach(&client, request).await.unwrap_err();
        assert!(
            matches!(failure.0.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled),
            "{deadline} ms: {failure:?}"
        );
    }
    // What would have been sent late would have been sent by now.
    try_attach(&client, attach("i-1", "eni-0002")).await.unwrap();
    assert_eq!(stage.ens.journal().calls_of(ATTACH), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_queueing_has_sent_nothing() {
    let stage = Stage::new(&["i-1"], 4).await;
    let replicas = [stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    stage.ens.fault(Fault::next(ATTACH, Effect::None).delay(Duration::from_secs(6)));
    // On the replica that holds the lock, and on one that queues for it.
    let leaving = async {
        let mut calls = JoinSet::new();
        eventually("never sent", async || {
            stage.ens.journal().instance("i-1").attach_processing == 1
        })
        .await;
        for (client, eni) in clients.iter().zip(["eni-0002", "eni-0003"]) {
            let client = client.clone();
            calls.spawn(async move { try_attach(&client, attach("i-1", eni)).await });
        }
        let arrived =
            async |replica: &Replica| replica.metric("eni_gateway_attempts_in_flight").await;
        eventually("the callers do not queue", async || {
            arrived(&replicas[0]).await == 2.0 && arrived(&replicas[1]).await == 1.0
        })
        .await;
        calls.shutdown().await;
    };
    let (first, ()) = tokio::join!(try_attach(&clients[0], attach("i-1", "eni-0001")), leaving);
    first.unwrap();
    // First come, first served: what still stood in the queue would have been sent before this one.
    try_attach(&clients[1], attach("i-1", "eni-0004")).await.unwrap();
    let journal = stage.ens.journal();
    let sent: Vec<_> = journal.attaches().flat_map(|call| &call.enis).collect();
    assert_eq!(sent, ["eni-0001", "eni-0004"]);
}
