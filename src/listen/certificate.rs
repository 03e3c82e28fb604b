//! Facts about X.509 certificates that rustls does not return.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Unix time at which the first certificate of this PEM expires; `None` if there is no valid one.
#[must_use]
pub fn expiry(pem: &[u8]) -> Option<i64> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Whether the certificate is for TLS clients, by its extended key usage. webpki accepts one
/// without that extension too, so a server's certificate of the same authority would be a caller's.
#[must_use]
pub fn is_for_clients(certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate).ok();
    let usage = parsed.as_ref().and_then(|(_, it)| it.extended_key_usage().ok().flatten());
    usage.is_some_and(|usage| usage.value.client_auth)
}
