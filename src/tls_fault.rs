//! Faults of a TLS handshake as sentences. The user of the connection adds the remedy, in the names
//! of its own settings or flags.

mod probe;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

pub use probe::{ClientIdentity, expects_tls, probe};

/// The cause of a failed handshake, seen from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// The server's answer is not TLS.
    NotTls,
    /// The server expects TLS, and the client does not use it.
    UsesTls,
    /// The server's certificate is from an authority that the client does not trust.
    UnknownIssuer,
    /// The server shows the certificate of an authority as its own, such as one that is
    /// self-signed with `CA:TRUE`.
    AuthorityAsServer,
    /// The server's certificate has version 1, without the names that clients compare.
    OldVersion,
    /// The server's certificate is for other names.
    OtherName {
        /// The name that the client connects to.
        expected: String,
        /// The names in the certificate; empty if unknown.
        presented: Vec<String>,
    },
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotValidYet,
    /// The server's certificate was revoked.
    Revoked,
    /// The server's certificate is for another purpose than a server.
    OtherPurpose,
    /// The server's certificate is unusable for another reason, in rustls' words.
    OtherCertificate(String),
    /// The server requires a client certificate.
    ClientCertificateMissing,
    /// The server refuses the client certificate: why.
    ClientCertificateRefused(&'static str),
    /// The server and the client have no version or cipher in common.
    NothingInCommon,
}

/// The remedies, in the names of the connection's own settings or flags.
#[derive(Debug, Clone, Copy)]
pub struct Remedies<'a> {
    /// For an unencrypted server: how to connect without TLS.
    pub plaintext: &'a str,
    /// For a server that expects TLS: how to connect with it.
    pub encrypted: &'a str,
    /// How to trust another authority.
    pub authorities: &'a str,
    /// How to connect by a name that the certificate has.
    pub name: &'a str,
    /// How to show a client certificate.
    pub identity: &'a str,
}

/// What an error wraps and hides from `source`: an I/O error, and the driver's shared one.
fn hidden<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return Some(&**shared);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

impl TlsFault {
    /// The fault among an error and its causes.
    #[must_use]
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = hidden(error).and_then(Self::find) {
                return Some(found);
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::of(tls);
            }
            next = error.source();
        }
        None
    }

    fn of(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidMessage(_) => Some(Self::NotTls),
            rustls::Error::InvalidCertificate(error) => Some(Self::of_certificate(error)),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::PeerIncompatible(_) => Some(Self::NothingInCommon),
            _ => None,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        // rustls wraps what only its verifier knows.
        let text = format!("{error:?}");
        match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName => {
                Self::OtherName { expected: String::new(), presented: Vec::new() }
            }
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| bare(name)).collect(),
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotValidYet
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherPurpose
            }
            _ if text.contains("CaUsedAsEndEntity") => Self::AuthorityAsServer,
            // The word of the verifier that ENS's client uses.
            _ if text.contains("EkuError") => Self::OtherPurpose,
            _ if text.contains("UnsupportedCertVersion") => Self::OldVersion,
            _ => Self::OtherCertificate(error.to_string()),
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::CertificateRequired => Some(Self::ClientCertificateMissing),
            AlertDescription::UnknownCA => {
                Some(Self::ClientCertificateRefused("unknown authority"))
            }
            AlertDescription::CertificateExpired => {
                Some(Self::ClientCertificateRefused("expired, or not valid yet"))
            }
            AlertDescription::CertificateRevoked => Some(Self::ClientCertificateRefused("revoked")),
            AlertDescription::UnsupportedCertificate => Some(Self::ClientCertificateRefused(
                "not for TLS clients: extendedKeyUsage = clientAuth",
            )),
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                Some(Self::ClientCertificateRefused("unusable"))
            }
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
                Some(Self::NothingInCommon)
            }
            _ => None,
        }
    }

    /// What to do, in one sentence.
    #[must_use]
    pub fn remedy(&self, remedies: &Remedies<'_>) -> String {
        let Remedies { plaintext, encrypted, authorities, name, identity } = remedies;
        match self {
            Self::NotTls => format!("{plaintext}, or correct the address"),
            Self::UsesTls => encrypted.to_string(),
            Self::UnknownIssuer => authorities.to_string(),
            Self::AuthorityAsServer => "give the server a certificate with CA:FALSE that the \
                 authority has signed"
                .to_owned(),
            Self::OldVersion => "give the server a certificate of version 3, with its names as \
                 subjectAltName"
                .to_owned(),
            Self::OtherName { .. } => name.to_string(),
            Self::Expired | Self::Revoked => "renew the server's certificate".to_owned(),
            Self::NotValidYet => "compare the clocks of both machines".to_owned(),
            Self::OtherPurpose | Self::OtherCertificate(_) => {
                "give the server another certificate".to_owned()
            }
            Self::ClientCertificateMissing | Self::ClientCertificateRefused(_) => {
                identity.to_string()
            }
            Self::NothingInCommon => {
                format!(
                    "use a server with TLS 1.2 or 1.3; where it needs a certificate, {identity}"
                )
            }
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the server there does not use TLS"),
            Self::UsesTls => f.write_str("the server there uses TLS"),
            Self::UnknownIssuer => {
                f.write_str("its certificate is from an authority that is not trusted")
            }
            Self::AuthorityAsServer => f.write_str(
                "its certificate is that of an authority (CA:TRUE), which no server may show",
            ),
            Self::OldVersion => f.write_str("its certificate has a version below 3"),
            Self::OtherName { expected, presented } => match (expected.as_str(), &presented[..]) {
                ("", _) => f.write_str("its certificate is for other names"),
                (expected, []) => write!(f, "its certificate is not for {expected}"),
                (expected, names) => {
                    write!(f, "its certificate is for {}, not for {expected}", names.join(", "))
                }
            },
            Self::Expired => f.write_str("its certificate has expired"),
            Self::NotValidYet => f.write_str("its certificate is not valid yet"),
            Self::Revoked => f.write_str("its certificate was revoked"),
            Self::OtherPurpose => f.write_str("its certificate is not for a server"),
            Self::OtherCertificate(why) => write!(f, "its certificate is not usable ({why})"),
            Self::ClientCertificateMissing => f.write_str("it requires a client certificate"),
            Self::ClientCertificateRefused(why) => {
                write!(f, "it refuses the client certificate ({why})")
            }
            Self::NothingInCommon => {
                f.write_str("it has no version or cipher of TLS in common with this program")
            }
        }
    }
}

/// The name in `DnsName("a")`, as rustls shows those of a certificate.
fn bare(name: &str) -> String {
    name.split('"').nth(1).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    const REMEDIES: Remedies<'_> = Remedies {
        plaintext: "use http://",
        encrypted: "use https://",
        authorities: "use --ca",
        name: "use --server-name",
        identity: "use --cert",
    };

    #[test]
    fn a_fault_is_found_in_io_errors_too() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let fault = TlsFault::find(&wrapped).expect("it is found");
        assert_eq!(fault, TlsFault::UnknownIssuer);
        assert_eq!(fault.remedy(&REMEDIES), "use --ca");
        assert_eq!(TlsFault::find(&io::Error::other("reset")), None);
    }

    #[test]
    fn the_names_are_shown_bare() {
        let error = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("gateway.example").expect("a name"),
            presented: vec!["DnsName(\"localhost\")".to_owned(), "other".to_owned()],
        };
        let fault = TlsFault::of(&rustls::Error::InvalidCertificate(error)).expect("it is one");
        assert_eq!(
            fault.to_string(),
            "its certificate is for localhost, other, not for gateway.example"
        );
    }
}
