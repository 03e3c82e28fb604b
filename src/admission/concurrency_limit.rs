//! One cap, and the share of it that any one instance may have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::InstanceId;

/// Where calls of one kind enter.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    kind: &'static str,
    cap: usize,
    share: usize,
    inside: Arc<Mutex<InFlight>>,
}

#[derive(Debug, Default)]
struct InFlight {
    all: usize,
    /// Only those with somebody inside.
    by_instance: BTreeMap<InstanceId, usize>,
}

/// Why nobody more may enter, for people.
pub(super) struct LimitExceeded(pub(super) String);

/// The right to be inside, until it is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped admits the next call"]
pub struct AdmissionPermit {
    inside: Arc<Mutex<InFlight>>,
    instance: Option<InstanceId>,
}

impl ConcurrencyLimit {
    /// For `cap` calls of this kind, and a `part`-th of them for one instance, but at least one.
    pub(super) fn new(kind: &'static str, cap: usize, part: usize) -> Self {
        Self {
            kind,
            cap,
            share: cap.div_ceil(part),
            inside: Arc::default(),
        }
    }

    pub(super) fn acquire(&self, instance: Option<&InstanceId>) -> Result<AdmissionPermit, LimitExceeded> {
        let Self { kind, cap, share, .. } = self;
        let mut inside = lock(&self.inside);
        if inside.all >= *cap {
            return Err(LimitExceeded(format!(
                "this replica has {cap} {kind} in flight, its most"
            )));
        }
        if let Some(instance) = instance {
            let mine = inside.by_instance.get(instance).copied().unwrap_or_default();
            if mine >= *share {
                return Err(LimitExceeded(format!(
                    "this replica has {share} {kind} in flight for this instance, the most for one instance"
                )));
            }
            inside.by_instance.insert(instance.clone(), mine + 1);
        }
        inside.all += 1;
        Ok(AdmissionPermit {
            inside: self.inside.clone(),
            instance: instance.cloned(),
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        lock(&self.inside).all
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut inside = lock(&self.inside);
        inside.all -= 1;
        let Some(instance) = &self.instance else { return };
        if let Some(mine) = inside.by_instance.get_mut(instance) {
            *mine -= 1;
            if *mine == 0 {
                inside.by_instance.remove(instance);
            }
        }
    }
}

fn lock(inside: &Mutex<InFlight>) -> MutexGuard<'_, InFlight> {
    // Counting cannot panic half-way.
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}
