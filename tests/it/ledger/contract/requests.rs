//! Request ids.

use std::time::Duration;

use eni_gateway::ledger::command::{
    Acquire, Command, EniObservation, Mode, ObservedStatus, Reply, SendResult,
};
use eni_gateway::ledger::{Effects, LedgerStore, RequestEntry, RequestKey};
use eni_gateway::model::{State, Ticket, Uid};
use uuid::Uuid;

use super::{commit, conflict, eni, entry, instance, ledger, proposal, put, record, request};

pub(crate) async fn a_request_entry_is_kept_beside_the_record(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let (id, key) = (instance(1), request("team-a", 1));
    let from = one.read(&id, Some(&key)).await.unwrap();
    assert_eq!(from.request, None);
    let effects = Effects { requests: vec![(key.clone(), Some(entry(1)))], ..Effects::default() };
    let mine = proposal(&id, &from, record(1), effects);
    commit(one, &mine).await;
    assert_eq!(other.read(&id, Some(&key)).await.unwrap().request, Some(entry(1)));
    assert_eq!(other.read(&id, None).await.unwrap().request, None, "it was not asked for");

    // Another call with the same id decides by the entry that it meets.
    let mut same = proposal(&id, &from, record(2), Effects::default());
    same.request = Some(key.clone());
    assert_eq!(conflict(other.commit(&same).await.unwrap()).request, Some(entry(1)));
    assert_eq!(conflict(other.commit(&mine).await.unwrap()).request, None, "it was not asked for");

    // Its answer is written later, by a commit that decides by another one.
    let from = one.read(&id, None).await.unwrap();
    let effects = Effects { requests: vec![(key.clone(), Some(entry(2)))], ..Effects::default() };
    let mut later = proposal(&id, &from, record(3), effects);
    later.request = Some(request("team-a", 2));
    commit(one, &later).await;
    assert_eq!(other.read(&id, Some(&key)).await.unwrap().request, Some(entry(2)));
    assert_eq!(other.read(&id, Some(&request("team-a", 2))).await.unwrap().request, None);
}

/// A caller's name may hold anything, and must not reach another's entries by it.
pub(crate) async fn request_entries_do_not_meet(one: &impl LedgerStore, _: &impl LedgerStore) {
    let all = [
        (1, "a", 1),
        (1, "a", 2),
        (1, "a:b", 1),
        (1, "{p0}", 1),
        (1, "ü\n\0*", 1),
        (1, "", 1),
        (2, "a", 1),
    ];
    for (number, (place, caller, id)) in all.iter().enumerate() {
        let from = one.read(&instance(*place), None).await.unwrap();
        let effects = Effects {
            requests: vec![(request(caller, *id), Some(entry(number)))],
            ..Effects::default()
        };
        commit(one, &proposal(&instance(*place), &from, record(1), effects)).await;
    }
    for (number, (place, caller, id)) in all.iter().enumerate() {
        let found = one.read(&instance(*place), Some(&request(caller, *id))).await.unwrap();
        assert_eq!(found.request, Some(entry(number)), "{caller:?}");
    }
}

pub(crate) async fn what_is_forgotten_is_gone_in_the_same_commit(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let id = instance(1);
    let remember = async |requests: Vec<(RequestKey, Option<RequestEntry>)>| {
        let effects = Effects { requests, ..Effects::default() };
        put(one, &id, record(1), effects).await;
    };
    remember(vec![(request("a", 1), Some(entry(1))), (request("a", 2), Some(entry(2)))]).await;
    remember(vec![(request("a", 1), None), (request("a", 3), Some(entry(3)))]).await;
    for (number, found) in [(1, None), (2, Some(entry(2))), (3, Some(entry(3)))] {
        let snapshot = other.read(&id, Some(&request("a", number))).await.unwrap();
        assert_eq!(snapshot.request, found, "{number}");
    }
}

/// An attach of what is attached already, or under way: however many ids it comes with, the record
/// stays as it is.
pub(crate) async fn calls_that_send_nothing_leave_nothing_behind(
    one: &(impl LedgerStore + Clone),
    other: &(impl LedgerStore + Clone),
) {
    let (id, ledger) = (instance(1), ledger(one));
    let enter = |who: u128| {
        Command::Acquire(Acquire {
            ticket: Ticket(Uuid::from_u128(who)),
            uid: Uid(Uuid::from_u128(who)),
            eni: eni(1),
            request: Some(request("a", who)),
            caller: None,
            trace: None,
            mode: Mode::Reserve,
            confirmed_since: eni_gateway::model::Timestamp::default(),
        })
    };
    // Clocks are estimates: what seems to come from the future is not believed.
    let observe = Command::Observe {
        sent_at: one.now(&id) - Duration::from_millis(100),
        rows: Vec::new(),
        then: Some(Box::new(enter(1))),
    };
    let Reply::Reserved { grant, attempt, .. } = ledger.execute(&id, &observe).await.unwrap().reply
    else {
        panic!()
    };
    let calls = async |before: u128| {
        let version = one.read(&id, None).await.unwrap().version;
        for who in before..before + 20 {
            let reply = ledger.execute(&id, &enter(who)).await.unwrap().reply;
            assert!(matches!(reply, Reply::Joined(_) | Reply::AlreadyAttached { .. }), "{reply:?}");
            assert_eq!(other.read(&id, Some(&request("a", who))).await.unwrap().request, None);
        }
        assert_eq!(one.read(&id, None).await.unwrap().version, version, "nothing was written");
    };
    let answer = Command::RecordSendResult {
        attempt,
        token: grant.token,
        result: SendResult::Accepted { ens_request_id: "E".to_owned() },
        release: true,
    };
    ledger.execute(&id, &answer).await.unwrap();
    calls(100).await;
    let in_use = EniObservation::Here { status: ObservedStatus::InUse, text: "InUse".to_owned() };
    let attached = async || {
        let settle = Command::RecordStatuses {
            sent_at: one.now(&id) - Duration::from_millis(5),
            observations: vec![(eni(1), in_use.clone())],
        };
        let record = ledger.execute(&id, &settle).await.unwrap().record;
        record.attempts[&eni(1)].state.kind() == State::Attached
    };
    while !attached().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls(200).await;
    let began = other.read(&id, Some(&request("a", 1))).await.unwrap().request.unwrap();
    assert!(began.answer.is_some(), "the id that began it keeps its answer");
}
