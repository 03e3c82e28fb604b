//! The scope and bounds of one search.

use std::time::Duration;

use eni_gateway::ledger::{Bounds, SafetyCheck};

/// ENIs have numbers here.
pub(crate) type Eni = usize;
/// So have replicas.
pub(crate) type Replica = usize;

/// How many of each kind of fault one path may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// A replica dies.
    pub(crate) crashes: u8,
    /// The answer to a commit is lost.
    pub(crate) lost_commits: u8,
    /// A caller's deadline ends before its send, and it receives that nothing was sent.
    pub(crate) left: u8,
    /// An attach's answer is lost, or comes too late.
    pub(crate) unanswered: u8,
    /// ENS refuses a copy for good.
    pub(crate) refused: u8,
    /// ENS throttles a copy.
    pub(crate) throttled: u8,
    /// ENS applies a copy, and answers that the ENI's status is wrong, as to a second delivery of
    /// the same request.
    pub(crate) denied: u8,
    /// ENS answers a copy, and another delivery of it arrives a little later.
    pub(crate) replayed: u8,
    /// ENS accepts, and nothing comes of it.
    pub(crate) failed: u8,
    /// Others attach an ENI.
    pub(crate) external_attaches: u8,
    /// Others detach an ENI.
    pub(crate) external_detaches: u8,
    /// The ledger fails over, and loses what was written last.
    pub(crate) failovers: u8,
    /// The ledger loses everything.
    pub(crate) losses: u8,
}

/// One search.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Who attaches what: of each replica, its callers in line.
    pub(crate) wanted: Vec<Vec<Eni>>,
    /// What is on the instance from the beginning.
    pub(crate) attached: Vec<Eni>,
    /// All ENIs.
    pub(crate) enis: usize,
    /// The time is over then.
    pub(crate) ticks: u64,
    /// Describes by id on their way at once.
    pub(crate) describes: usize,
    pub(crate) faults: Faults,
    /// Redis' replicas are waited for, and a failover needs no hold-down.
    pub(crate) synced: bool,
    /// They are not, although they should be.
    pub(crate) unconfirmed: bool,
    /// An owner may stand still behind its send, or with the answer, while another one sends again.
    pub(crate) stand_still: bool,
    /// Only a send or its effect breaks an invariant, not what the record says: so a mutation test
    /// shows the harm that a safety check prevents.
    pub(crate) check_effects_only: bool,
    pub(crate) bounds: Bounds,
}

impl Plan {
    /// One caller and a limit of one, one describe at a time, no faults; lag 1 s, validity 1 s,
    /// lease 2 s.
    pub(crate) fn new(name: &'static str) -> Self {
        let seconds = Duration::from_secs;
        Self {
            name,
            wanted: vec![vec![0]],
            attached: Vec::new(),
            enis: 2,
            ticks: 8,
            describes: 1,
            faults: Faults::default(),
            synced: false,
            unconfirmed: false,
            stand_still: false,
            check_effects_only: false,
            bounds: Bounds {
                lag: seconds(1),
                validity: seconds(1),
                lease: seconds(2),
                failover_window: seconds(1),
                limit: 1,
                ..Bounds::default()
            },
        }
    }

    /// Two replicas, four ENIs, of which one is attached already, and a limit of two: two callers
    /// for the last place.
    pub(crate) fn of_two_for_the_last_place(name: &'static str) -> Self {
        Self { wanted: vec![vec![0], vec![1]], attached: vec![3], enis: 4, ..Self::new(name) }
            .limit(2)
    }

    /// One attempt at an ENS that denies or repeats what it applied.
    pub(crate) fn of_a_hostile_ens(name: &'static str) -> Self {
        Self {
            enis: 1,
            ticks: 5,
            faults: Faults {
                denied: 1,
                replayed: 1,
                unanswered: 1,
                failed: 1,
                ..Faults::default()
            },
            ..Self::new(name)
        }
    }

    /// One attempt that is refused, but only after it was sent again; a failover may lose that it
    /// was.
    pub(crate) fn of_a_lost_resend(name: &'static str) -> Self {
        Self {
            enis: 1,
            ticks: 3,
            faults: Faults { unanswered: 1, refused: 1, failovers: 1, ..Faults::default() },
            stand_still: true,
            ..Self::new(name)
        }
    }

    /// One attempt of which two copies are on their way for long, and others who detach what the
    /// first one brought about.
    pub(crate) fn of_a_detach_beside_another_copy(name: &'static str) -> Self {
        let mut plan = Self {
            enis: 1,
            ticks: 4,
            faults: Faults { unanswered: 1, external_detaches: 1, ..Faults::default() },
            ..Self::new(name)
        };
        plan.bounds.validity = Duration::from_secs(3);
        plan
    }

    pub(crate) fn limit(mut self, limit: usize) -> Self {
        self.bounds.limit = limit;
        self
    }

    pub(crate) fn without(mut self, check: SafetyCheck) -> Self {
        self.bounds.without = Some(check);
        self
    }

    pub(crate) fn lag(&self) -> u64 {
        self.bounds.lag.as_secs()
    }

    pub(crate) fn wants(&self, eni: Eni) -> bool {
        self.wanted.iter().flatten().any(|wanted| *wanted == eni)
    }
}

/// What a send may take, and the margin: with less of its lease left nothing is sent.
pub(crate) const NEEDED: u64 = 1;
