//! The ENIs that are in use by ENS's truth, with instance and time, which a read must show.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use eni_gateway::grpc::proto::Attachment;
use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Cloud, EniStatus};
use tokio::time::Instant;

/// `ens.visibility_lag` by the settings of [`crate::environment`].
pub(crate) const LAG: Duration = Duration::from_millis(1_500);

/// ENIs in use, as they were seen without a break.
#[derive(Debug, Default)]
pub(crate) struct EnsTruth(Mutex<BTreeMap<String, Stand>>);

/// One ENI in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    instance: String,
    /// How many attaches of the ENI took effect by then: one more is another stand, even if no
    /// observation fell between the two.
    applied: u64,
    since: Instant,
}

impl EnsTruth {
    fn stands(&self) -> MutexGuard<'_, BTreeMap<String, Stand>> {
        self.0.lock().unwrap()
    }

    /// Observes ENS's world.
    pub(crate) fn observe(&self, ens: &Cloud, enis: impl Iterator<Item = String>) {
        let mut stands = self.stands();
        let now = Instant::now();
        ens.world(|world, _| {
            for eni in enis {
                let placement = world.placement(&eni).filter(|at| at.status == EniStatus::InUse);
                let Some(instance) = placement.and_then(|at| at.instance.clone()) else {
                    stands.remove(&eni);
                    continue;
                };
                let applied = world.journal().applied_to(&eni);
                let known = stands.get(&eni);
                if known.is_none_or(|stand| stand.instance != instance || stand.applied != applied)
                {
                    let stand = Stand { instance, applied, since: now };
                    stands.insert(eni, stand);
                }
            }
        });
    }

    /// The ENIs that have been in use on an instance since then or earlier.
    pub(crate) fn on(&self, instance: &str, since: Instant) -> Vec<String> {
        let stands = self.stands();
        let on =
            stands.iter().filter(|(_, stand)| stand.instance == instance && stand.since <= since);
        on.map(|(eni, _)| eni.clone()).collect()
    }

    /// A pair that has stood for longer than the lag: the first from this ENI on.
    pub(crate) fn from(&self, eni: &str) -> Option<(String, String)> {
        let stands = self.stands();
        let mut from = stands.range(eni.to_owned()..);
        let (eni, stand) = from.find(|(_, stand)| stand.since.elapsed() > LAG)?;
        Some((stand.instance.clone(), eni.clone()))
    }
}

/// The first of these ENIs that an answer does not show as attached or on its way.
pub(crate) fn omitted<'a>(standing: &'a [String], shown: &[Attachment]) -> Option<&'a String> {
    let is_shown = |eni: &&String| {
        shown.iter().any(|attachment| {
            let gone = matches!(attachment.state(), State::Failed | State::Detached);
            attachment.network_interface_id == **eni && !gone
        })
    };
    standing.iter().find(|eni| !is_shown(eni))
}

/// Tests the check itself: what it must find, and what not.
pub(crate) fn self_test() {
    let attachment = |state: State| Attachment {
        network_interface_id: "eni-1".to_owned(),
        state: state.into(),
        ..Attachment::default()
    };
    let standing = ["eni-1".to_owned()];
    for (shown, expected) in [
        (vec![attachment(State::Attached)], None),
        (vec![attachment(State::Verifying)], None),
        (vec![attachment(State::Detached)], Some(&standing[0])),
        (vec![], Some(&standing[0])),
    ] {
        assert_eq!(omitted(&standing, &shown), expected);
    }
    assert_eq!(omitted(&[], &[]), None);
}
