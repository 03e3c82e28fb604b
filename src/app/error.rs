//! Errors of start and run.

use std::io;
use std::net::SocketAddr;

use crate::ledger::redis::InvalidSettings;
use crate::policy::StoreError;
use crate::rate_limit::InvalidRate;
use crate::telemetry::metrics::MetricsError;
use crate::{ens, grpc};

/// An error that prevents the start, or ends the gateway.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be bound.
    #[error("{setting} = {address} cannot be listened on: {source}")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The ENS client cannot be built.
    #[error(transparent)]
    Ens(#[from] ens::settings::Invalid),
    /// The ledger cannot be built.
    #[error(transparent)]
    Ledger(#[from] InvalidSettings),
    /// A file of the ledger's settings cannot be read.
    #[error("{setting} cannot be read: {source}")]
    File {
        /// The setting.
        setting: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A rate is out of bounds.
    #[error(transparent)]
    Rate(#[from] InvalidRate),
    /// The metrics cannot be built.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] grpc::tls::TlsError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] StoreError),
    /// No caller could have an identity.
    #[error(
        "identity.policy_file has no [[issuers]], and grpc.client_ca_file is unset, so no caller has \
         an identity; set one of them"
    )]
    NoIdentities,
    /// The gRPC server ended.
    #[error(transparent)]
    Serve(#[from] grpc::server::ServeError),
    /// The admin listener failed.
    #[error("the admin listener failed: {0}")]
    Admin(#[source] io::Error),
}

/// An error with its causes, each once.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
