//! The attempts of a record, shared by its copies until one of them changes an attempt. A step
//! copies the record, and changes one or two attempts of it.

use std::ops::Index;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::InterfaceId;

use super::{Attempt, SmallMap};

/// The attempts of one instance, by ENI.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempts(SmallMap<InterfaceId, Arc<Attempt>>);

impl Attempts {
    /// The attempt of an ENI.
    #[must_use]
    pub fn get(&self, eni: &InterfaceId) -> Option<&Attempt> {
        self.0.get(eni).map(|attempt| &**attempt)
    }

    /// The attempt of an ENI, shared with the record.
    #[must_use]
    pub fn shared(&self, eni: &InterfaceId) -> Option<Arc<Attempt>> {
        self.0.get(eni).cloned()
    }

    /// The attempt of an ENI, to be changed.
    pub fn get_mut(&mut self, eni: &InterfaceId) -> Option<&mut Attempt> {
        self.0.get_mut(eni).map(Arc::make_mut)
    }

    /// Whether an ENI has an attempt.
    #[must_use]
    pub fn contains_key(&self, eni: &InterfaceId) -> bool {
        self.0.contains_key(eni)
    }

    /// Adds or replaces the attempt of an ENI.
    pub fn insert(&mut self, eni: InterfaceId, attempt: impl Into<Arc<Attempt>>) {
        self.0.insert(eni, attempt.into());
    }

    /// Removes the attempt of an ENI.
    pub fn remove(&mut self, eni: &InterfaceId) {
        self.0.remove(eni);
    }

    /// The ENIs, in order.
    pub fn keys(&self) -> impl Iterator<Item = &InterfaceId> {
        self.0.keys()
    }

    /// The attempts, in the order of their ENIs.
    pub fn values(&self) -> impl Iterator<Item = &Attempt> {
        self.0.values().map(|attempt| &**attempt)
    }

    /// The attempts for which `is_changed` holds, to be changed. The others stay shared.
    pub fn values_mut_where(
        &mut self,
        is_changed: impl Fn(&Attempt) -> bool,
    ) -> impl Iterator<Item = &mut Attempt> {
        self.0.values_mut().filter(move |attempt| is_changed(attempt)).map(Arc::make_mut)
    }

    /// The ENIs with their attempts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&InterfaceId, &Attempt)> {
        self.0.iter().map(|(eni, attempt)| (eni, &**attempt))
    }

    /// The number of attempts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no attempt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Attempts {
    /// Compares only the attempts that are not shared.
    fn eq(&self, other: &Self) -> bool {
        let same =
            |(one, other): (&Arc<Attempt>, &Arc<Attempt>)| Arc::ptr_eq(one, other) || one == other;
        self.0.len() == other.0.len()
            && self.0.keys().eq(other.0.keys())
            && self.0.values().zip(other.0.values()).all(same)
    }
}

impl Index<&InterfaceId> for Attempts {
    type Output = Attempt;

    fn index(&self, eni: &InterfaceId) -> &Attempt {
        &self.0[eni]
    }
}

impl FromIterator<(InterfaceId, Attempt)> for Attempts {
    fn from_iter<I: IntoIterator<Item = (InterfaceId, Attempt)>>(attempts: I) -> Self {
        Self(attempts.into_iter().map(|(eni, attempt)| (eni, attempt.into())).collect())
    }
}
