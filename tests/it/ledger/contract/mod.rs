//! The contract of every ledger store. Each case gets ledgers that share one set of records, like
//! two replicas.

pub(crate) mod changes;
pub(crate) mod commits;
pub(crate) mod queue;
pub(crate) mod requests;
pub(crate) mod tokens;

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ledger::record::LearnedLimit;
use eni_gateway::ledger::{
    Bounds, Effects, Ledger, LedgerStore, Proposal, Record, RequestEntry, RequestKey, Snapshot,
    Verdict,
};
use eni_gateway::model::{
    Caller, InstanceId, InterfaceId, RequestId, Revision, Timestamp, Uid, Unknown,
};
use uuid::Uuid;

/// Every case, handed to a macro that makes tests of them, with what that one needs.
macro_rules! cases {
    ($macro:ident! $given:tt) => {
        $crate::ledger::contract::$macro! { $given
            commits: [
                an_unknown_instance_is_empty,
                a_commit_is_read_back_everywhere,
                a_record_that_the_reader_has_is_returned_while_it_is_current,
                of_two_commits_from_one_version_one_wins,
                a_commit_whose_reply_was_lost_shows_when_tried_again,
                a_commit_turned_back_changes_nothing,
                a_commit_computed_for_another_time_is_turned_back,
                a_commit_computed_under_another_epoch_is_turned_back,
                versions_rise_through_expiry,
                an_idle_record_expires_unless_something_in_it_is_live,
                concurrent_commits_lose_nothing,
            ],
            requests: [
                a_request_entry_is_kept_beside_the_record,
                request_entries_do_not_meet,
                what_is_forgotten_is_gone_in_the_same_commit,
                calls_that_send_nothing_leave_nothing_behind,
            ],
            queue: [
                what_is_due_is_claimed_once_and_comes_back,
                the_earliest_come_first_over_all_partitions,
                what_is_not_due_any_more_is_not_claimed,
                a_read_takes_nothing_and_a_claim_only_what_is_still_due,
                two_claimers_share_out_the_work,
                a_comparison_is_claimed_once_comes_back_and_can_be_put_off,
                what_is_due_without_a_record_is_claimed_and_no_more,
            ],
            changes: [
                a_commit_with_notice_is_heard_everywhere,
                a_commit_without_notice_is_not_heard,
                changed_instances_are_listed_in_the_order_of_their_last_changes,
                an_instance_without_a_record_is_listed_no_longer,
            ],
            tokens: [
                the_rate_is_one_for_all,
                callers_leave_half_of_the_describes_to_the_tracker,
                a_token_given_back_can_be_taken_again,
                a_throttling_stops_everybody_and_one_probe_opens_again,
            ]
        }
    };
}
pub(crate) use cases;

/// Each case as a test, over two ledgers that share their records; `$ledgers` is evaluated for
/// each.
macro_rules! contract {
    ($ledgers:expr) => {
        $crate::ledger::contract::cases! { contract! ($ledgers) }
    };
    (($ledgers:expr) $($module:ident: [$($case:ident),+ $(,)?]),+) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (_keep, one, other) = $ledgers.await;
                $crate::ledger::contract::$module::$case(&one, &other).await;
            })+
        })+
    };
}
pub(crate) use contract;

/// All cases one after another, where the servers take long to start: `$ledgers` is called for
/// each, with a prefix of its own.
macro_rules! contract_at_once {
    ($ledgers:expr) => {
        $crate::ledger::contract::cases! { contract_at_once! ($ledgers) }
    };
    (($ledgers:expr) $($module:ident: [$($case:ident),+ $(,)?]),+) => {
        $($(
            let (_keep, one, other) = $ledgers(concat!(stringify!($case), ":")).await;
            $crate::ledger::contract::$module::$case(&one, &other).await;
        )+)+
    };
}
pub(crate) use contract_at_once;

pub(crate) fn instance(number: usize) -> InstanceId {
    format!("i-{number}").parse().unwrap()
}

pub(crate) fn eni(number: usize) -> InterfaceId {
    format!("eni-{number}").parse().unwrap()
}

pub(crate) fn request(caller: &str, number: u128) -> RequestKey {
    RequestKey::new(Caller(caller.into()), RequestId(Uuid::from_u128(number)))
}

pub(crate) fn entry(number: usize) -> RequestEntry {
    RequestEntry {
        eni: eni(number),
        uid: Uid(Uuid::from_u128(number as u128)),
        answer: None,
        unknown: Unknown::default(),
    }
}

/// A record that shows who wrote it.
pub(crate) fn record(mark: u64) -> Arc<Record> {
    let limit = LearnedLimit {
        limit: 3,
        at: Timestamp::from_micros(1),
        until: Timestamp::from_micros(2),
        unknown: Unknown::default(),
    };
    Arc::new(Record { revision: Revision(mark), learned_limit: Some(limit), ..Record::default() })
}

/// The rules over a ledger.
pub(crate) fn ledger<L: LedgerStore + Clone>(ledger: &L) -> Ledger<L> {
    Ledger::new(ledger.clone(), Bounds::default(), Arc::new(|_| {}))
}

/// Awaits what a condition says, not a time.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A change computed from a snapshot.
pub(crate) fn proposal(
    instance: &InstanceId,
    from: &Snapshot,
    record: Arc<Record>,
    effects: Effects,
) -> Proposal {
    Proposal {
        instance: instance.clone(),
        version: from.version,
        partition: from.partition.clone(),
        now: from.now,
        record,
        request: None,
        effects,
    }
}

/// Reads, writes `record` with `effects`, and returns the version. No other call may write
/// meanwhile.
pub(crate) async fn put(
    ledger: &impl LedgerStore,
    instance: &InstanceId,
    record: Arc<Record>,
    effects: Effects,
) -> u64 {
    let from = ledger.read(instance, None).await.unwrap();
    commit(ledger, &proposal(instance, &from, record, effects)).await.0
}

/// Commits what nothing stands against; under which version, and when. On a busy machine a commit
/// may come too late for the time that it was computed for, and is made again.
pub(crate) async fn commit(ledger: &impl LedgerStore, proposal: &Proposal) -> (u64, Timestamp) {
    let mut proposal = proposal.clone();
    loop {
        match ledger.commit(&proposal).await.unwrap() {
            Verdict::Committed { version, now } => return (version, now),
            Verdict::Conflict(found) => {
                assert_eq!(
                    (found.version, &found.partition),
                    (proposal.version, &proposal.partition)
                );
                proposal.now = found.now;
            }
        }
    }
}

/// What a proposal met that was turned back.
pub(crate) fn conflict(verdict: Verdict) -> Snapshot {
    match verdict {
        Verdict::Conflict(found) => *found,
        Verdict::Committed { version, .. } => panic!("committed as {version}"),
    }
}
