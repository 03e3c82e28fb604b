//! Checks of the files that settings name.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::checks::Checks;
use crate::config::Config;

/// What a file must hold.
#[derive(Clone, Copy)]
enum Content {
    /// Anything. Without a password Redis may serve as its default user, or refuse later.
    Text,
    Certificates,
    Key,
    RevocationLists,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "content",
            Self::Certificates => "certificate",
            Self::Key => "private key",
            Self::RevocationLists => "revocation list",
        }
    }

    fn is_in(self, pem: &[u8]) -> bool {
        match self {
            Self::Text => true,
            Self::Certificates => has_some::<CertificateDer<'_>>(pem),
            Self::Key => PrivateKeyDer::from_pem_slice(pem).is_ok(),
            Self::RevocationLists => has_some::<CertificateRevocationListDer<'_>>(pem),
        }
    }
}

/// Whether there are objects of this kind, and each can be read.
fn has_some<T: PemObject>(pem: &[u8]) -> bool {
    let mut found = T::pem_slice_iter(pem).peekable();
    found.peek().is_some() && found.all(|object| object.is_ok())
}

pub(super) fn files(config: &Config, checks: &mut Checks<'_>) {
    let mut readable = |path: &'static str, file: &Option<PathBuf>, content: Content| {
        let Some(file) = file else { return };
        let place = file.display();
        let (problem, remedy) = match std::fs::read(file) {
            Err(error) => (
                format!("{place} cannot be read ({error})"),
                "set a file that the gateway can read",
            ),
            Ok(bytes) if bytes.trim_ascii().is_empty() => (
                format!("{place} is empty"),
                "write its content into the file, or unset the setting",
            ),
            Ok(bytes) if !content.is_in(&bytes) => (
                format!("{place} has no usable {} in PEM form", content.name()),
                "set a file that has one",
            ),
            Ok(_) => return,
        };
        checks.require(&[path], false, || problem, remedy);
    };
    let (grpc, ledger) = (&config.grpc, &config.ledger);
    readable("grpc.tls_cert_file", &grpc.tls_cert_file, Content::Certificates);
    readable("grpc.tls_key_file", &grpc.tls_key_file, Content::Key);
    readable("grpc.client_ca_file", &grpc.client_ca_file, Content::Certificates);
    readable("grpc.client_crl_file", &grpc.client_crl_file, Content::RevocationLists);
    readable("log.filter_file", &config.log.filter_file, Content::Text);
    readable("identity.policy_file", &config.identity.policy_file, Content::Text);
    readable("ledger.password_file", &ledger.password_file, Content::Text);
    readable("ledger.sentinel_password_file", &ledger.sentinel_password_file, Content::Text);
    readable("ledger.ca_file", &ledger.ca_file, Content::Certificates);
    readable("ledger.cert_file", &ledger.cert_file, Content::Certificates);
    readable("ledger.key_file", &ledger.key_file, Content::Key);
}
