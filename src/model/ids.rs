//! Newtypes for ids. Text from outside must be parsed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Maximum length of an id, in bytes.
pub const MAX_ID_LENGTH: usize = 128;

/// A reason why a text is not an id. It does not repeat the text, which may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`MAX_ID_LENGTH`] bytes.
    #[error("must be at most {MAX_ID_LENGTH} characters long, but has {0}")]
    TooLong(usize),
    /// The position, from 1, of a character other than `A-Za-z0-9._-`.
    #[error("may have only letters, digits, '.', '_' and '-', but character {0} is another one")]
    Character(usize),
}

fn parse_id(text: &str) -> Result<Arc<str>, InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > MAX_ID_LENGTH {
        return Err(InvalidId::TooLong(text.chars().count()));
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match text.as_bytes().iter().position(|byte| !allowed(byte)) {
        // All characters before it are one byte long.
        Some(before) => Err(InvalidId::Character(before + 1)),
        None => Ok(text.into()),
    }
}

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_id(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// An ENS instance, such as `i-5p67acfmxazb4p`: 1 to 128 of `A-Za-z0-9._-`.
    InstanceId
}
text_id! {
    /// An elastic network interface, such as `eni-58z57orgmt6d1`: 1 to 128 of `A-Za-z0-9._-`.
    InterfaceId
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// The id of an attempt. A later attach of the same pair has another one.
    Uid
}
uuid_id! {
    /// A place in an instance's queue; after the grant, the lock's owner.
    Ticket
}
uuid_id! {
    /// The caller's idempotency key (AIP-155), scoped to (caller, instance).
    RequestId
}

impl RequestId {
    /// The key of one ENI of a batch with this key: the same for the same ENI, and another one for
    /// each other ENI.
    #[must_use]
    pub fn of_eni(self, eni: &InterfaceId) -> Self {
        Self(Uuid::new_v5(&self.0, eni.as_str().as_bytes()))
    }
}

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next revision. It is never behind the clock, so it also rises after a loss of
            /// the record.
            #[must_use]
            pub fn next(self, now: super::Timestamp) -> Self {
                Self((self.0 + 1).max(now.as_micros()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A number that rises with every change of an instance's attachments.
    Revision
}
counter! {
    /// The place of an instance's last change among all changes of its partition. It rises with
    /// every change.
    Position
}
counter! {
    /// The fencing token: it rises with every grant of an instance's lock, and with the ticket
    /// identifies one.
    FencingToken
}

/// The caller's identity: the scope of request ids and quotas, and part of the audit line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caller(pub Arc<str>);

impl Caller {
    /// A caller without an identity.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// The source that the name shows: `spiffe`, `dns`, `token` or `anonymous`.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self.0.split_once(':') {
            None => "anonymous",
            Some(("spiffe", _)) => "spiffe",
            Some(("dns", _)) => "dns",
            Some(_) => "token",
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_only_its_alphabet() {
        for good in ["i-5p67acfmxazb4p", "eni-1", "a", "A.b_c-9", &"x".repeat(128)] {
            assert_eq!(good.parse::<InstanceId>().expect(good).as_str(), good);
        }
        assert_eq!("".parse::<InterfaceId>(), Err(InvalidId::Empty));
        assert_eq!("x".repeat(129).parse::<InterfaceId>(), Err(InvalidId::TooLong(129)));
        for (bad, position) in
            [("i-1 ", 4), ("i{p1}", 2), ("ü", 1), ("a\nb", 2), ("a\0", 2), ("a/b", 2), ("a:b", 2)]
        {
            assert_eq!(bad.parse::<InterfaceId>(), Err(InvalidId::Character(position)), "{bad:?}");
        }
    }

    #[test]
    fn a_record_cannot_smuggle_a_bad_id_in() {
        assert!(serde_json::from_str::<InstanceId>("\"a b\"").is_err());
    }

    #[test]
    fn each_eni_of_a_batch_has_an_id_of_its_own() {
        let (id, other) = (RequestId(Uuid::from_u128(7)), RequestId(Uuid::from_u128(8)));
        let (one, two): (InterfaceId, InterfaceId) =
            ("eni-1".parse().unwrap(), "eni-2".parse().unwrap());
        assert_eq!(id.of_eni(&one), id.of_eni(&one));
        let ids = [id, id.of_eni(&one), id.of_eni(&two), other.of_eni(&one)];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }

    #[test]
    fn counters_rise_by_one_or_jump_to_the_clock() {
        let now = super::super::Timestamp::from_micros(1_000);
        assert_eq!(Revision(5).next(now), Revision(1_000));
        assert_eq!(Revision(5_000).next(now), Revision(5_001));
    }
}
