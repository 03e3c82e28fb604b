//! TLS handshakes that failed: their causes, seen from the server, and the lines about them.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};

use crate::model::Reason;
use crate::sync::OncePerPeriod;
use crate::telemetry::{AuditEvent, AuditLine};

/// The cause of a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandshakeFault {
    /// The client does not use TLS.
    NotTls,
    /// The client and the gateway have no version, cipher or protocol in common.
    NothingInCommon,
    /// The client refuses the gateway's certificate.
    RefusedByClient,
    /// The client shows no certificate.
    CertificateMissing,
    /// The client's certificate is from an authority that the gateway does not know.
    UnknownAuthority,
    /// The client's certificate has expired.
    Expired,
    /// The client's certificate is not valid yet.
    NotValidYet,
    /// The client's certificate was revoked.
    Revoked,
    /// The client's certificate is not for TLS clients.
    OtherPurpose,
    /// The client's certificate is unusable for another reason, such as an expired revocation list.
    BadCertificate,
    /// The client did not complete the handshake in time.
    Timeout,
    /// The client closed the connection. So do checks of load balancers.
    Closed,
    /// Another cause.
    Other,
}

impl HandshakeFault {
    /// Every cause.
    pub const ALL: [Self; 13] = [
        Self::NotTls,
        Self::NothingInCommon,
        Self::RefusedByClient,
        Self::CertificateMissing,
        Self::UnknownAuthority,
        Self::Expired,
        Self::NotValidYet,
        Self::Revoked,
        Self::OtherPurpose,
        Self::BadCertificate,
        Self::Timeout,
        Self::Closed,
        Self::Other,
    ];

    /// The cause as a label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NothingInCommon => "nothing_in_common",
            Self::RefusedByClient => "refused_by_client",
            Self::CertificateMissing => "certificate_missing",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotValidYet => "not_valid_yet",
            Self::Revoked => "revoked",
            Self::OtherPurpose => "other_purpose",
            Self::BadCertificate => "bad_certificate",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }

    /// Whether it is about the identity of the client.
    const fn is_of_identity(self) -> bool {
        matches!(
            self,
            Self::CertificateMissing
                | Self::UnknownAuthority
                | Self::Expired
                | Self::NotValidYet
                | Self::Revoked
                | Self::OtherPurpose
                | Self::BadCertificate
        )
    }

    fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(tls), _) => Self::of_tls(tls),
            (None, io::ErrorKind::TimedOut) => Self::Timeout,
            (
                None,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => Self::Closed,
            _ => Self::Other,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
                Self::NothingInCommon
            }
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::NoCertificatesPresented => Self::CertificateMissing,
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            _ => Self::Other,
        }
    }

    const fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotValidYet
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherPurpose
            }
            _ => Self::BadCertificate,
        }
    }

    const fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate => Self::RefusedByClient,
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::NoApplicationProtocol => Self::NothingInCommon,
            AlertDescription::CloseNotify | AlertDescription::UserCanceled => Self::Closed,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "the client does not use TLS",
            Self::NothingInCommon => {
                "the client has no version, cipher or protocol of TLS in common with the gateway"
            }
            Self::RefusedByClient => "the client refuses the gateway's certificate",
            Self::CertificateMissing => "the client shows no certificate",
            Self::UnknownAuthority => {
                "the client's certificate is from an authority that the gateway does not know"
            }
            Self::Expired => "the client's certificate has expired",
            Self::NotValidYet => "the client's certificate is not valid yet",
            Self::Revoked => "the client's certificate was revoked",
            Self::OtherPurpose => "the client's certificate is not for TLS clients",
            Self::BadCertificate => "the client's certificate is unusable",
            Self::Timeout => "the client did not complete the handshake in time",
            Self::Closed => "the client closed the connection",
            Self::Other => "the handshake failed",
        })
    }
}

/// Receives the cause of each failed handshake.
pub type HandshakeReport = Arc<dyn Fn(HandshakeFault) + Send + Sync>;

/// Reports failed handshakes. Of those of one address and cause it logs one in ten seconds.
pub(super) struct HandshakeLog {
    report: HandshakeReport,
    logged: OncePerPeriod<(Option<IpAddr>, HandshakeFault)>,
}

impl HandshakeLog {
    pub(super) fn new(report: HandshakeReport) -> Arc<Self> {
        Arc::new(Self { report, logged: OncePerPeriod::default() })
    }

    /// Reports a failure. `peer` is `None` where the connection was closed already.
    pub(super) fn failed(&self, peer: Option<SocketAddr>, error: &io::Error) {
        let fault = HandshakeFault::of(error);
        (self.report)(fault);
        let address = peer.map(|peer| peer.ip());
        if fault == HandshakeFault::Closed || !self.logged.is_first((address, fault)) {
            return;
        }
        let detail = format!("{fault} ({})", source_of(error));
        AuditLine {
            peer,
            allowed: Some(false),
            reason: fault.is_of_identity().then_some(Reason::CallerUnauthenticated),
            cause: Some(&detail),
            ..AuditLine::default()
        }
        .write(AuditEvent::Connection);
    }
}

/// The words of TLS, or of the system. Neither has content of certificates.
fn source_of(error: &io::Error) -> String {
    match error.get_ref() {
        Some(inner) => (inner as &dyn Error).to_string(),
        None => error.kind().to_string(),
    }
}
