//! Records that a test puts into the ledger behind the edge.

use std::sync::Arc;

use eni_gateway::ledger::record::{Attached, Attempt, AttemptState, Detached};
use eni_gateway::ledger::{Effects, LedgerStore, Memory, Proposal, Snapshot, Verdict};
use eni_gateway::model::{
    Attachment, Failure, Reason, Revision, State, Timestamp, Transition, Uid, Unknown,
};

/// Puts an attachment into a ledger: seen just now.
pub(super) async fn put(store: &Memory, attachment: Attachment) {
    let instance = attachment.instance.clone();
    let Snapshot { record: mut stored, version, partition, now, .. } =
        store.read(&instance, None).await.unwrap();
    let record = Arc::make_mut(&mut stored);
    record.revision = record.revision.max(attachment.revision);
    // As of a ledger that lost nothing.
    record.epoch.clone_from(&partition.epoch);
    let state = match attachment.state {
        State::Attached => AttemptState::Attached(Attached::default()),
        State::Detached => AttemptState::Detached(Detached::default()),
        State::Failed => {
            AttemptState::failed(Failure::new(Reason::AttachFailed, "it is free again"))
        }
        other => panic!("no test puts an attachment that is {other:?}"),
    };
    let attempt = Attempt {
        state,
        revision: attachment.revision,
        created_at: attachment.created_at,
        updated_at: attachment.updated_at,
        transitions: attachment.transitions,
        ens_status: attachment.ens_status,
        observed_at: attachment.observed_at,
        ens_request_id: attachment.ens_request_id,
        described_at: Some(now),
        ..Attempt::new(&instance, &attachment.eni, attachment.uid, now)
    };
    // The cloud of these tests shows nothing: what was settled just now need not show yet.
    record.recently_confirmed.insert(attachment.eni.clone(), now);
    record.attempts.insert(attachment.eni, attempt);
    let proposal = Proposal {
        instance,
        version,
        partition,
        now,
        record: stored,
        request: None,
        effects: Effects { notify: true, ..Effects::default() },
    };
    let verdict = store.commit(&proposal).await.unwrap();
    assert!(matches!(verdict, Verdict::Committed { .. }), "{verdict:?}");
}

/// An attachment in a state.
pub(super) fn attachment(instance: &str, eni: &str, state: State, revision: u64) -> Attachment {
    let time = Timestamp::from_micros(1_800_000_000_000_000);
    Attachment {
        instance: instance.parse().expect("an id"),
        eni: eni.parse().expect("an id"),
        uid: Uid(uuid::Uuid::from_u128(u128::from(revision))),
        state,
        ens_status: "InUse".to_owned(),
        observed_at: Some(time),
        revision: Revision(revision),
        created_at: time,
        updated_at: time,
        ens_request_id: "ENS-REQUEST-ID".to_owned(),
        error: None,
        transitions: vec![Transition::new(state, time)],
        stuck: false,
        unknown: Unknown::default(),
    }
}
