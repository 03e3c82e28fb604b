//! Why a connection to the gateway failed: the scheme, the certificates, or the network.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use crate::cli::error::Error;
use crate::tls_fault::{ClientIdentity, Remedies, TlsFault, probe};

/// Time limit for a probe of the server.
const PATIENCE: Duration = Duration::from_secs(2);
const REMEDIES: Remedies<'_> = Remedies {
    plaintext: "use an --endpoint with http://",
    encrypted: "use an --endpoint with https://",
    authorities: "give the CA certificate of the gateway with --ca",
    name: "give a name of the certificate with --server-name, or in --endpoint",
    identity: "give a client certificate of an authority that the gateway trusts, with --cert and \
               --key",
};

/// The innermost cause; tonic's own text is "transport error".
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The error of a failed connect.
pub(super) fn of_connect(endpoint: &str, error: &tonic::transport::Error) -> Error {
    match TlsFault::find(error) {
        Some(fault) => explained(endpoint, &fault),
        None => Error::Unreachable {
            endpoint: endpoint.to_owned(),
            cause: innermost(error),
            remedy: "check --endpoint, and whether the gateway runs there".to_owned(),
        },
    }
}

/// The error of a failed call. A broken connection may have a cause that only shows after the
/// connect: TLS behind http://, or a missing client certificate.
pub(super) async fn of_call(
    endpoint: &str,
    identity: Option<(&Path, &Path)>,
    error: Error,
) -> Error {
    let Error::Refused(refusal) = &error else { return error };
    if !refusal.is_broken_connection() {
        return error;
    }
    let identity = match identity.map(|(cert, key)| (std::fs::read(cert), std::fs::read(key))) {
        Some((Ok(chain), Ok(key))) => ClientIdentity::from_pem(&chain, &key),
        _ => None,
    };
    match timeout(PATIENCE, probe(endpoint, identity)).await {
        Ok(Some(fault)) => explained(endpoint, &fault),
        _ => error,
    }
}

fn explained(endpoint: &str, fault: &TlsFault) -> Error {
    Error::Unreachable {
        endpoint: endpoint.to_owned(),
        cause: fault.to_string(),
        remedy: fault.remedy(&REMEDIES),
    }
}
