//! The request ids that began attempts, with their stored entries.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::model::stored::stored;
use crate::model::{Attachment, Caller, InterfaceId, RequestId, Uid, Unknown};

stored! {
    /// A request id in its scope; the instance is the record's own.
    #[derive(Clone, Debug)]
    pub struct RequestKey {
        /// The caller that sent it.
        pub caller: Caller,
        /// The id.
        pub id: RequestId,
    }
}

impl RequestKey {
    /// The id `id` of `caller`.
    #[must_use]
    pub fn new(caller: Caller, id: RequestId) -> Self {
        let unknown = Unknown::default();
        Self { caller, id, unknown }
    }

    fn name(&self) -> (&Caller, RequestId) {
        (&self.caller, self.id)
    }
}

/// A key. Unknown fields of a newer version do not distinguish two keys.
impl PartialEq for RequestKey {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for RequestKey {}

impl PartialOrd for RequestKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RequestKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Hash for RequestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

stored! {
    /// The entry of a request id, kept for 24 hours.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RequestEntry {
        /// The ENI of the request.
        pub eni: InterfaceId,
        /// The attempt that it began.
        pub uid: Uid,
        /// The definite answer, once there is one: the attachment as accepted, or as refused (then
        /// with its `error`).
        pub answer: Option<Attachment> = optional,
    }
}

impl RequestEntry {
    /// The entry of the request id that began the attempt `uid`, or that ended with it.
    #[must_use]
    pub fn new(eni: &InterfaceId, uid: Uid, answer: Option<Attachment>) -> Self {
        Self { eni: eni.clone(), uid, answer, unknown: Unknown::default() }
    }
}
