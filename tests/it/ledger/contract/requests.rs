//! Request ids.

use eni_gateway::ledger::{Effects, Ledger};

use super::{commit, conflict, entry, instance, proposal, record, request};

pub(crate) async fn a_request_entry_is_kept_beside_the_record(one: &impl Ledger, other: &impl Ledger) {
    let (id, key) = (instance(1), request("team-a", 1));
    let from = one.read(&id, Some(&key)).await.unwrap();
    assert_eq!(from.request, None);
    let effects = Effects {
        requests: vec![(key.clone(), entry(1))],
        ..Effects::default()
    };
    let mine = proposal(&id, &from, record(1), effects);
    commit(one, &mine).await;
    assert_eq!(other.read(&id, Some(&key)).await.unwrap().request, Some(entry(1)));
    assert_eq!(
        other.read(&id, None).await.unwrap().request,
        None,
        "nobody asked for it"
    );

    // Another call with the same id decides by the entry that it meets.
    let mut same = proposal(&id, &from, record(2), Effects::default());
    same.request = Some(key.clone());
    assert_eq!(conflict(other.commit(&same).await.unwrap()).request, Some(entry(1)));
    assert_eq!(
        conflict(other.commit(&mine).await.unwrap()).request,
        None,
        "nobody asked for it"
    );

    // Its answer is written later, by a commit that decides by another one.
    let from = one.read(&id, None).await.unwrap();
    let effects = Effects {
        requests: vec![(key.clone(), entry(2))],
        ..Effects::default()
    };
    let mut later = proposal(&id, &from, record(3), effects);
    later.request = Some(request("team-a", 2));
    commit(one, &later).await;
    assert_eq!(other.read(&id, Some(&key)).await.unwrap().request, Some(entry(2)));
    assert_eq!(
        other.read(&id, Some(&request("team-a", 2))).await.unwrap().request,
        None
    );
}

/// A caller's name may hold anything, and must not reach another's entries by it.
pub(crate) async fn request_entries_do_not_meet(one: &impl Ledger, _: &impl Ledger) {
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
            requests: vec![(request(caller, *id), entry(number))],
            ..Effects::default()
        };
        commit(one, &proposal(&instance(*place), &from, record(1), effects)).await;
    }
    for (number, (place, caller, id)) in all.iter().enumerate() {
        let found = one.read(&instance(*place), Some(&request(caller, *id))).await.unwrap();
        assert_eq!(found.request, Some(entry(number)), "{caller:?}");
    }
}
