//! Property tests: the invariants hold at each step of any sequence of commands.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Pass(u64),
    Enter(u128, u8, bool),
    Answer(u8, u8),
    Settle(u8, u8, u64),
    Observe(Vec<u8>, u64),
    Resend(u128, u8),
    Leave(u128),
    Lose(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let eni = 0..4_u8;
    prop_oneof![
        (1..15_000_u64).prop_map(Act::Pass),
        (1..4_u128, eni.clone(), any::<bool>())
            .prop_map(|(who, eni, queue)| Act::Enter(who, eni, queue)),
        (eni.clone(), 0..5_u8).prop_map(|(eni, how)| Act::Answer(eni, how)),
        (eni.clone(), 0..8_u8, 0..12_000_u64)
            .prop_map(|(eni, what, ago)| Act::Settle(eni, what, ago)),
        (prop::collection::vec(eni.clone(), 0..4), 0..12_000_u64)
            .prop_map(|(enis, ago)| Act::Observe(enis, ago)),
        (1..4_u128, eni).prop_map(|(who, eni)| Act::Resend(who, eni)),
        (1..4_u128).prop_map(Act::Leave),
        any::<bool>().prop_map(Act::Lose),
    ]
}

fn name(eni: u8) -> String {
    format!("eni-{eni}")
}

/// Performs `act`; `Desk::run` checks the invariants of each step.
fn perform(desk: &mut Desk, act: Act, uids: &mut u128) {
    match act {
        Act::Pass(millis) => desk.pass(Duration::from_millis(millis)),
        Act::Enter(who, eni, queue) => {
            *uids += 1;
            let reach = if queue { Mode::Enqueue } else { Mode::Reserve };
            let Command::Acquire(enter) = enter(who, &name(eni), reach, None) else {
                return;
            };
            desk.run(&Command::Acquire(Acquire {
                uid: Uid(Uuid::from_u128(1000 + *uids)),
                ..enter
            }));
        }
        Act::Answer(eni, how) => {
            let Some(attempt) = desk.record.attempts.get(&id(&name(eni))).cloned() else {
                return;
            };
            if !attempt.is_from_gateway()
                || attempt.sends.is_empty()
                || attempt.sends.last().is_some_and(|send| send.answered_at.is_some())
            {
                return;
            }
            let failure =
                crate::model::Failure::new(crate::model::Reason::InstanceNotStopped, "no");
            let answer = match how {
                0 => SendResult::Accepted { ens_request_id: "E".to_owned() },
                1 => SendResult::Refused(failure),
                2 => SendResult::StatusConflict(failure),
                3 => SendResult::NoEffect,
                _ => SendResult::NoResponse,
            };
            let lock = desk.record.lock.as_ref();
            let grant = lock.map_or(
                LockToken { ticket: ticket(0), fencing_token: desk.record.fencing_token },
                |lock| LockToken { ticket: lock.ticket, fencing_token: lock.fencing_token },
            );
            desk.run(&Command::RecordSendResult {
                attempt: attempt.into(),
                token: grant,
                result: answer,
                release: true,
            });
        }
        Act::Settle(eni, what, ago) => {
            let observation = match what {
                0 => free(),
                1 => here(ObservedStatus::InUse),
                2 => here(ObservedStatus::Attaching),
                3 => here(ObservedStatus::Detaching),
                4 => EniObservation::Elsewhere {
                    instance: "i-2".parse().unwrap(),
                    text: "InUse".to_owned(),
                },
                5 => EniObservation::Missing,
                6 => EniObservation::Unclear { text: "Deleting".to_owned() },
                _ => EniObservation::Unclear { text: String::new() },
            };
            let sent_at = desk.now - Duration::from_millis(ago);
            desk.run(&Command::RecordStatuses {
                sent_at,
                observations: vec![(id(&name(eni)), observation)],
            });
        }
        Act::Observe(enis, ago) => {
            let rows =
                enis.into_iter().map(|eni| sight(&name(eni), ObservedStatus::InUse)).collect();
            let sent_at = desk.now - Duration::from_millis(ago);
            desk.run(&Command::Observe { sent_at, rows, then: None });
        }
        Act::Resend(who, eni) => {
            if let Some(uid) = desk.record.attempts.get(&id(&name(eni))).map(|attempt| attempt.uid)
            {
                desk.run(&Command::Resend { ticket: ticket(who), uid, eni: id(&name(eni)) });
            }
        }
        Act::Leave(who) => {
            desk.run(&Command::Release { ticket: ticket(who) });
        }
        Act::Lose(hold_down) => {
            let hold_down_until =
                if hold_down { desk.now + 5 * SECOND } else { Timestamp::default() };
            let epoch = desk.now.as_micros().to_string().into();
            desk.partition = Partition { epoch, hold_down_until, shared: None, freeze: None };
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_whatever_comes(acts in prop::collection::vec(act(), 1..80)) {
        let mut desk = Desk::new();
        desk.bounds.limit = 2;
        let mut uids = 0;
        for act in acts {
            perform(&mut desk, act, &mut uids);
            let live = desk.record.attempts.values().filter(|attempt| attempt.is_reserved());
            for attempt in live {
                prop_assert!(attempt.state.due_at().is_some(), "{attempt:?} would never be polled");
            }
        }
    }
}
