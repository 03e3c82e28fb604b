//! The request ids of a record, a bounded number for each instance.

use super::super::bounds::MAX_REQUESTS;
use super::super::record::{RequestEntry, RequestKey};
use super::RecordUpdate;

impl RecordUpdate<'_> {
    /// Keeps the entry of a request id. If the record is full, the caller with the most ids on this
    /// instance loses the oldest. A caller with many ids thus displaces no other caller's.
    pub(super) fn remember(&mut self, key: RequestKey, entry: RequestEntry) {
        let ids = self.record.requests.entry(key.caller.clone()).or_default();
        ids.retain(|id| *id != key.id);
        ids.push(key.id);
        self.requests.push((key.clone(), Some(entry)));
        while self.record.requests.values().map(Vec::len).sum::<usize>() > MAX_REQUESTS {
            let callers = self.record.requests.iter();
            let most = callers.max_by_key(|(caller, ids)| (ids.len(), **caller != key.caller));
            let Some(oldest) =
                most.and_then(|(caller, ids)| Some(RequestKey::new(caller.clone(), *ids.first()?)))
            else {
                return;
            };
            self.forget(oldest);
        }
    }

    /// Forgets a request id.
    pub(super) fn forget(&mut self, key: RequestKey) {
        if let Some(ids) = self.record.requests.get_mut(&key.caller) {
            ids.retain(|id| *id != key.id);
            if ids.is_empty() {
                self.record.requests.remove(&key.caller);
            }
        }
        self.requests.push((key, None));
    }
}
