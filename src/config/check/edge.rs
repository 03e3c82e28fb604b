//! The two listeners.

use super::{Checks, beyond_loopback};
use crate::config::Config;

pub(super) fn listeners(config: &Config, checks: &mut Checks<'_>) {
    let (grpc, admin) = (config.grpc.listen, config.admin.listen);
    let overlap = grpc.port() == admin.port()
        && grpc.port() != 0
        && (grpc.ip() == admin.ip() || grpc.ip().is_unspecified() || admin.ip().is_unspecified());
    let problem = || format!("{grpc} and {admin} cannot both be bound");
    checks.require(
        &["grpc.listen", "admin.listen"],
        !overlap,
        problem,
        "give one of them another port",
    );
}

pub(super) fn tls(config: &Config, checks: &mut Checks<'_>) {
    let grpc = &config.grpc;
    let has_tls = grpc.tls_cert_file.is_some();
    checks.require(
        &["grpc.listen", "grpc.allow_plaintext"],
        !beyond_loopback(grpc.listen) || has_tls || grpc.tls_key_file.is_some() || grpc.allow_plaintext,
        || format!("{} is beyond loopback, and would be served in plaintext", grpc.listen),
        "set grpc.tls_cert_file and grpc.tls_key_file, or grpc.allow_plaintext = true where the network protects it",
    );
    checks.require(
        &["grpc.tls_cert_file", "grpc.tls_key_file"],
        has_tls == grpc.tls_key_file.is_some(),
        || "one of them is set without the other".to_owned(),
        "set both or none",
    );
    checks.require(
        &["grpc.client_ca_file", "grpc.tls_cert_file"],
        grpc.client_ca_file.is_none() || has_tls,
        || "client certificates need TLS".to_owned(),
        "set grpc.tls_cert_file and grpc.tls_key_file, or unset grpc.client_ca_file",
    );
}
