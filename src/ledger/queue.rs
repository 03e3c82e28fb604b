//! A queue by due time, in memory. It matches the sorted sets in Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Timestamp;

/// Members by due time. Each member has at most one.
#[derive(Debug, Clone)]
pub(super) struct DueQueue<T> {
    times: BTreeMap<T, Timestamp>,
    by_time: BTreeSet<(Timestamp, T)>,
}

impl<T> Default for DueQueue<T> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<T: Ord + Clone> DueQueue<T> {
    /// Sets when a member is due. `None` removes it.
    pub(super) fn set(&mut self, member: T, at: Option<Timestamp>) {
        if let Some(before) = self.times.remove(&member) {
            self.by_time.remove(&(before, member.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, member.clone()));
            self.times.insert(member, at);
        }
    }

    /// Members that are due by `now`, earliest first.
    pub(super) fn due(&self, most: usize, now: Timestamp) -> Vec<T> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= now).take(most);
        due.map(|(_, member)| member.clone()).collect()
    }

    /// Makes members that are due later than `latest` due `now`.
    pub(super) fn repair(&mut self, now: Timestamp, latest: Timestamp) {
        let later = self.by_time.iter().rev().take_while(|(at, _)| *at > latest);
        let later: Vec<T> = later.map(|(_, member)| member.clone()).collect();
        for member in later {
            self.set(member, Some(now));
        }
    }

    /// Returns those of these members that are due by `now`, and makes them due again after
    /// `visibility`.
    pub(super) fn claim(
        &mut self,
        mut members: Vec<T>,
        now: Timestamp,
        visibility: Duration,
    ) -> Vec<T> {
        members.retain(|member| self.times.get(member).is_some_and(|at| *at <= now));
        for member in &members {
            self.set(member.clone(), Some(now + visibility));
        }
        members
    }
}
