//! The origin of a call.

use std::net::{IpAddr, Ipv4Addr};

use crate::listen::ConnectionRef;

/// Where a call comes from, as far as limits tell callers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address of the peer, or its IPv6 network.
    pub address: IpAddr,
    /// Number of the connection.
    pub connection: u64,
}

impl Peer {
    /// The peer of calls that come over no listener.
    pub const LOCAL: Self = Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), connection: 0 };
}

impl From<&ConnectionRef> for Peer {
    fn from(info: &ConnectionRef) -> Self {
        Self { address: info.network(), connection: info.id() }
    }
}
