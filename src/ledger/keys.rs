//! All keys and channels in Redis. No other module builds one.
//!
//! The tag in braces puts all keys of one commit into one slot of a cluster. `v2` is the version of
//! the stored layout. An incompatible layout needs a new version.

use sha2::{Digest as _, Sha256};

use crate::model::{InstanceId, InterfaceId};

use super::{Due, RequestKey};

pub use super::partition::{PARTITIONS, PartitionId};

/// Why a text cannot be the key prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prefix of the keys must not hold braces: they would decide the cluster slot")]
pub struct InvalidPrefix;

/// Builds keys with one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Builds keys that begin with `prefix`.
    ///
    /// # Errors
    /// The prefix contains a brace.
    pub fn new(prefix: impl Into<String>) -> Result<Self, InvalidPrefix> {
        let prefix = prefix.into();
        if prefix.contains(['{', '}']) { Err(InvalidPrefix) } else { Ok(Self { prefix }) }
    }

    /// The epoch of a partition (string).
    #[must_use]
    pub fn epoch(&self, partition: PartitionId) -> String {
        self.of(partition, "epoch")
    }

    /// The freeze of a partition (string). It stands until an operator ends it.
    #[must_use]
    pub fn freeze(&self, partition: PartitionId) -> String {
        self.of(partition, "freeze")
    }

    /// The state of a partition, with which the keys of each commit script begin.
    #[must_use]
    pub fn state(&self, partition: PartitionId) -> [String; 2] {
        [self.epoch(partition), self.freeze(partition)]
    }

    /// The attempts of a partition by due time (sorted set of [`due_member`]).
    #[must_use]
    pub fn due(&self, partition: PartitionId) -> String {
        self.of(partition, "due")
    }

    /// The instances of a partition by time of the next reconciliation (sorted set of ids).
    #[must_use]
    pub fn reconciliations(&self, partition: PartitionId) -> String {
        self.of(partition, "reconciliations")
    }

    /// The instances of a partition by the position of their last change (sorted set of ids). The
    /// empty member has the last position.
    #[must_use]
    pub fn changed(&self, partition: PartitionId) -> String {
        self.of(partition, "changed")
    }

    /// The instances of a partition by the time at which their record expires (sorted set of ids).
    #[must_use]
    pub fn ends(&self, partition: PartitionId) -> String {
        self.of(partition, "ends")
    }

    /// The change notifications of a partition's instances (sharded channel).
    #[must_use]
    pub fn channel(&self, partition: PartitionId) -> String {
        self.of(partition, "changes")
    }

    /// The record of an instance (string).
    #[must_use]
    pub fn record(&self, instance: &InstanceId) -> String {
        self.of(PartitionId::of(instance), &format!("record:{instance}"))
    }

    /// The entry of a request id (string). The caller's name may be long and hold any character, so
    /// the key has its hash.
    #[must_use]
    pub fn request(&self, instance: &InstanceId, request: &RequestKey) -> String {
        let caller = hex::encode(&Sha256::digest(request.caller.0.as_bytes())[..16]);
        self.of(PartitionId::of(instance), &format!("request:{instance}:{caller}:{}", request.id))
    }

    /// Scratch value that shows how far the Redis replicas have come (string).
    #[must_use]
    pub fn scratch(&self, partition: PartitionId) -> String {
        self.of(partition, "scratch")
    }

    /// The settings of the replicas that use a server, by the time each was last seen (sorted set,
    /// in µs by the server's clock).
    #[must_use]
    pub fn members(&self, partition: PartitionId) -> String {
        self.of(partition, "members")
    }

    /// When a server was last used as a primary (string, in µs by its own clock).
    #[must_use]
    pub fn primary_seen_at(&self, partition: PartitionId) -> String {
        self.of(partition, "primary_seen_at")
    }

    /// Scratch values that test the user's rights, and are removed at once (string, sorted set,
    /// hash).
    #[must_use]
    pub fn scratches(&self, partition: PartitionId) -> [String; 3] {
        ["string", "set", "hash"].map(|kind| self.of(partition, &format!("scratch:{kind}")))
    }

    /// The budget of ENS calls (hash).
    #[must_use]
    pub fn budget(&self) -> String {
        format!("{}{{budget}}:v2:tokens", self.prefix)
    }

    /// A SCAN pattern that matches every key of the gateway.
    #[must_use]
    pub fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 2);
        for character in self.prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push_str("{*");
        pattern
    }

    fn of(&self, partition: PartitionId, rest: &str) -> String {
        format!("{}{{p{}}}:v2:{rest}", self.prefix, partition.index())
    }
}

/// The member of an attempt in the due queue. No id contains a slash.
#[must_use]
pub fn due_member(instance: &InstanceId, eni: &InterfaceId) -> String {
    format!("{instance}/{eni}")
}

/// The reverse of [`due_member`]. `None` for a member that this version did not write.
#[must_use]
pub fn parse_due_member(member: &str) -> Option<Due> {
    let (instance, eni) = member.split_once('/')?;
    Some(Due { instance: instance.parse().ok()?, eni: eni.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use crate::model::{Caller, RequestId};

    use super::*;

    fn keys() -> Keys {
        Keys::new("eni-gateway:").unwrap()
    }

    fn instance(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    /// Stored data uses these strings. A changed string loses its records.
    #[test]
    fn keys_are_literally_these() {
        let id = instance("i-5p67acfmxazb4p");
        let partition = PartitionId::of(&id);
        assert_eq!(keys().record(&id), "eni-gateway:{p51}:v2:record:i-5p67acfmxazb4p");
        assert_eq!(keys().epoch(partition), "eni-gateway:{p51}:v2:epoch");
        assert_eq!(keys().freeze(partition), "eni-gateway:{p51}:v2:freeze");
        assert_eq!(keys().due(partition), "eni-gateway:{p51}:v2:due");
        assert_eq!(keys().reconciliations(partition), "eni-gateway:{p51}:v2:reconciliations");
        assert_eq!(keys().changed(partition), "eni-gateway:{p51}:v2:changed");
        assert_eq!(keys().ends(partition), "eni-gateway:{p51}:v2:ends");
        assert_eq!(keys().channel(partition), "eni-gateway:{p51}:v2:changes");
        assert_eq!(keys().budget(), "eni-gateway:{budget}:v2:tokens");
        let request =
            RequestKey::new(Caller("spiffe://a/{b}\n".into()), RequestId(uuid::Uuid::from_u128(7)));
        assert_eq!(
            keys().request(&id, &request),
            "eni-gateway:{p51}:v2:request:i-5p67acfmxazb4p:a4c01527a95a6b4a2fa0344482094689:00000000-0000-0000-0000-000000000007"
        );
    }

    #[test]
    fn a_due_member_comes_back_as_it_was() {
        let due = Due { instance: instance("i-1.a_b"), eni: "eni-2".parse().unwrap() };
        assert_eq!(parse_due_member(&due_member(&due.instance, &due.eni)), Some(due));
        assert_eq!(parse_due_member("nonsense"), None);
        assert_eq!(parse_due_member("a b/c"), None);
    }

    #[test]
    fn a_prefix_cannot_move_keys_to_another_slot_or_match_others() {
        assert!(Keys::new("a{b}").is_err());
        assert_eq!(Keys::new("a*[b]\\?:").unwrap().pattern(), "a\\*\\[b\\]\\\\\\?:{*");
    }
}
