//! The verification of callers' certificates.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::listen::certificate;

/// Accepts certificates that one of the authorities signed for TLS clients.
#[derive(Debug)]
pub(super) struct ClientCerts(Arc<dyn ClientCertVerifier>);

impl ClientCerts {
    /// A verifier with these authorities. With revocation lists, each authority that signs callers'
    /// certificates needs one.
    ///
    /// # Errors
    /// There is no authority, or a list is invalid.
    pub(super) fn new(
        authorities: RootCertStore,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
            .with_crls(revoked)
            .only_check_end_entity_revocation();
        Ok(Self(verifier.build()?))
    }

    /// Whether the chain of a connection that is open is still accepted.
    pub(super) fn accept(&self, chain: &[CertificateDer<'_>]) -> bool {
        chain.split_first().is_some_and(|(certificate, intermediates)| {
            self.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
        })
    }
}

impl ClientCertVerifier for ClientCerts {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(certificate, intermediates, now)?;
        if certificate::is_for_clients(certificate) {
            Ok(verified)
        } else {
            Err(CertificateError::InvalidPurpose.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
