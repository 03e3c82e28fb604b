//! The origin of a call.

use std::net::{IpAddr, Ipv4Addr};

use sha2::{Digest as _, Sha256};

use crate::listen::ConnectionRef;
use crate::model::Caller;

/// Where a call comes from, as far as limits tell callers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The party that shares are counted for.
    pub holder: Holder,
    /// Number of the connection.
    pub connection: u64,
}

/// A party that has a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// The address of a peer, or its IPv6 network.
    Address(IpAddr),
    /// An identified caller: the begin of the SHA-256 of its name, which may be long.
    Caller([u8; 16]),
}

impl Peer {
    /// The peer of calls that come over no listener.
    pub const LOCAL: Self =
        Self { holder: Holder::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)), connection: 0 };

    /// The peer of a call whose caller is identified. Its share is the caller's, from whatever
    /// address.
    #[must_use]
    pub fn identified_as(self, caller: &Caller) -> Self {
        let mut name = [0; 16];
        name.copy_from_slice(&Sha256::digest(caller.0.as_bytes())[..16]);
        Self { holder: Holder::Caller(name), ..self }
    }
}

impl From<&ConnectionRef> for Peer {
    fn from(info: &ConnectionRef) -> Self {
        Self { holder: Holder::Address(info.network()), connection: info.id() }
    }
}
