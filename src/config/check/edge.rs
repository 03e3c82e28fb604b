//! Checks of the two listeners.

use std::net::SocketAddr;

use url::Url;

use super::checks::Checks;
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
        "change the port of one of them",
    );
}

pub(super) fn help(config: &Config, checks: &mut Checks<'_>) {
    let is_link = |url: &String| {
        Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.password().is_none())
    };
    checks.require(
        &["grpc.help_url"],
        config.grpc.help_url.as_ref().is_none_or(is_link),
        || "it is not a URL with http:// or https://, and without a password".to_owned(),
        "set the address of the published docs/errors.md, or unset it",
    );
}

pub(super) fn tls(config: &Config, checks: &mut Checks<'_>) {
    let grpc = &config.grpc;
    let has_tls = grpc.tls_cert_file.is_some();
    checks.require(
        &["grpc.listen", "grpc.allow_plaintext"],
        !beyond_loopback(grpc.listen)
            || has_tls
            || grpc.tls_key_file.is_some()
            || grpc.allow_plaintext,
        || format!("{} is beyond loopback, and would serve plaintext", grpc.listen),
        "set grpc.tls_cert_file and grpc.tls_key_file, or grpc.allow_plaintext = true where the \
         network encrypts",
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
    checks.require(
        &["grpc.client_crl_file", "grpc.client_ca_file"],
        grpc.client_crl_file.is_none() || grpc.client_ca_file.is_some(),
        || "revocation lists need client certificates".to_owned(),
        "set grpc.client_ca_file, or unset grpc.client_crl_file",
    );
}

/// Whether the address is reachable from other machines.
pub(super) fn beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}
