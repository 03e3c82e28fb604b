//! Each fault, as the caller sees it and as the journal records it.

use std::io::ErrorKind;
use std::time::Duration;

use eni_gateway::simulator::{
    Action, Answer, Cloud, Effect, EniStatus, Fault, Handle, Params, Placement, Settings, World,
    WorldFile,
};
use rstest::rstest;

use super::caller::Caller;
use super::{eventually, start};

/// Attaches `eni-0001` under a fault.
async fn attach_under(fault: Fault) -> (Handle, Caller, std::io::Result<super::caller::Answer>) {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    simulator.fault(fault);
    let answer = caller.attach("i-stopped-1", "eni-0001").await;
    (simulator, caller, answer)
}

fn next(effect: Effect) -> Fault {
    Fault::next(Action::AttachNetworkInterface, effect)
}

#[rstest]
#[case::before(Effect::DropBefore, ErrorKind::ConnectionReset, 0)]
#[case::after(Effect::DropAfter, ErrorKind::ConnectionReset, 1)]
#[case::truncated(Effect::Truncated, ErrorKind::UnexpectedEof, 1)]
#[tokio::test]
async fn a_lost_answer(#[case] effect: Effect, #[case] seen: ErrorKind, #[case] applied: u64) {
    let (simulator, caller, answer) = attach_under(next(effect)).await;
    assert_eq!(answer.unwrap_err().kind(), seen);
    assert_eq!(simulator.journal().applied_to("eni-0001"), applied);
    // The connection is lost, not the server.
    let status = caller.status("eni-0001").await;
    assert_eq!(status == "Available", applied == 0, "{status}");
}

#[rstest]
#[case::mask(Effect::Mask, 400, "ens.interface.error", 1)]
#[case::refuse(
    Effect::Refuse { code: "InternalError".into(), status: 500, message: "oh".into() }, 500, "InternalError", 0
)]
#[case::refuse_applied(
    Effect::RefuseApplied { code: "Busy".into(), status: 429, message: "no".into(), retry_after: None }, 429, "Busy", 1
)]
#[case::throttle(Effect::Throttle { retry_after: None }, 400, "Throttling.User", 0)]
#[case::forget(Effect::AcceptThenForget, 200, "ok", 0)]
#[tokio::test]
async fn a_wrong_answer(
    #[case] effect: Effect,
    #[case] status: u16,
    #[case] code: &str,
    #[case] applied: u64,
) {
    let (simulator, caller, answer) = attach_under(next(effect)).await;
    assert_eq!(answer.unwrap().code(), (status, code.to_owned()));
    assert_eq!(simulator.journal().applied_to("eni-0001"), applied);
    assert_eq!(
        caller.attach("i-stopped-1", "eni-0002").await.unwrap().code().1,
        "ok",
        "it applies once"
    );
}

#[rstest]
#[case::bad_gateway(Effect::Html { status: 502, apply: true }, 502, 1)]
#[case::unavailable(Effect::Html { status: 503, apply: false }, 503, 0)]
#[case::not_json(Effect::NotJson { apply: true }, 200, 1)]
#[tokio::test]
async fn an_answer_that_is_no_json(
    #[case] effect: Effect,
    #[case] status: u16,
    #[case] applied: u64,
) {
    let (simulator, _, answer) = attach_under(next(effect)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, status);
    assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_err());
    assert_eq!(simulator.journal().applied_to("eni-0001"), applied);
}

#[tokio::test]
async fn applied_late() {
    let (simulator, _, answer) =
        attach_under(next(Effect::ApplyLate { after: Duration::from_secs(2) })).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let journal = simulator.journal();
    assert_eq!(journal.attaches().map(|call| call.applied).collect::<Vec<_>>(), [false]);
    eventually(async || simulator.journal().applied_to("eni-0001") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_arrives_later_takes_effect_again_where_it_may() {
    let cloud = Cloud::new(World::new(WorldFile::default_world()), Settings::default());
    let after = Duration::from_secs(20);
    cloud.fault(next(Effect::Replay { after }));
    let names = [("InstanceId", "i-stopped-1"), ("NetworkInterfaceId", "eni-0001")];
    let answer = cloud.call(Action::AttachNetworkInterface, &Params::from_iter(names)).await;
    assert!(matches!(answer, Answer::Reply(reply) if reply.outcome.is_ok()));
    cloud.world(|world, now| world.force("eni-0001", Placement::default(), now).unwrap());
    let status = || cloud.world(|world, _| world.placement("eni-0001").unwrap().status.clone());
    tokio::time::sleep(after - Duration::from_secs(1)).await;
    assert_eq!(status(), EniStatus::Available);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(status(), EniStatus::Attaching);
}

#[tokio::test]
async fn accepted_then_failed() {
    let (simulator, caller, answer) = attach_under(next(Effect::AcceptThenFail)).await;
    assert_eq!(answer.unwrap().code().1, "ok");
    caller.until_status("eni-0001", "Available").await;
    let counts = simulator.journal().instance("i-stopped-1");
    assert_eq!((counts.applied, counts.max_occupied, counts.occupied), (1, 1, 0));
}

#[tokio::test]
async fn an_answer_late_but_right() {
    let delay = Duration::from_millis(150);
    let began = tokio::time::Instant::now();
    let (simulator, _, answer) =
        attach_under(next(Effect::None).delay(delay).delay_answer(delay)).await;
    assert_eq!(answer.unwrap().code().1, "ok");
    assert!(began.elapsed() >= 2 * delay);
    let call = simulator.journal().calls[0].clone();
    assert!(call.until_ms - call.at_ms >= 300, "{call:?}");
}

#[tokio::test]
async fn only_the_calls_it_names() {
    let simulator = start().await;
    let caller = Caller::new(simulator.address());
    simulator.fault(next(Effect::DropBefore).eni("eni-0002"));
    simulator.fault(
        Fault::next(Action::DescribeNetworkInterfaces, Effect::Mask).instance("i-stopped-2"),
    );
    assert_eq!(caller.attach("i-stopped-1", "eni-0001").await.unwrap().code().1, "ok");
    assert!(caller.attach("i-stopped-1", "eni-0002").await.is_err());
    caller.status("eni-0001").await;
    assert_eq!(simulator.faults().len(), 1);
    simulator.clear_faults();
    assert!(simulator.faults().is_empty());
}
