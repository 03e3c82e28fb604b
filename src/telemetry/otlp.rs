//! The exporter of traces: built from the `OTEL_*` variables, with failures explained.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::variable::set;
use crate::tls_fault::{ClientIdentity, Remedies, TlsFault, probe};

/// Time limit for finding out why an export failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the library puts before the cause.
const LIBRARY: &str = "Operation failed: TonicTracesClient export failed with gRPC code: ";
const REMEDIES: Remedies<'_> = Remedies {
    plaintext: "begin OTEL_EXPORTER_OTLP_ENDPOINT with http://",
    encrypted: "begin OTEL_EXPORTER_OTLP_ENDPOINT with https://",
    authorities: "set OTEL_EXPORTER_OTLP_CERTIFICATE to the CA certificate of the collector",
    name: "use a name of the certificate in OTEL_EXPORTER_OTLP_ENDPOINT",
    identity: "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
};

/// A failed setup of the exporter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exporter cannot be built from the `OTEL_*` variables.
    #[error("traces cannot be exported with these OTEL_ variables")]
    Build(#[from] ExporterBuildError),
    /// A variable names a file that cannot be read.
    #[error("the file of {name} cannot be read")]
    File {
        /// The variable.
        name: String,
        /// The cause.
        #[source]
        error: std::io::Error,
    },
    /// The file of the collector's authorities holds no certificate.
    #[error("the file of OTEL_EXPORTER_OTLP_CERTIFICATE holds no certificates in PEM form")]
    NoCertificates,
    /// One of the variables of a client certificate is missing.
    #[error(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY are set together \
         or not at all"
    )]
    HalfIdentity,
}

/// The traces' endpoint; `None` if it is unset or disabled.
pub(super) fn endpoint(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let disabled =
        set(variable, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = set(variable, "OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
    if disabled || none {
        return None;
    }
    named_endpoint(variable).map(|(_, endpoint)| endpoint).filter(|endpoint| has_scheme(endpoint))
}

/// The variable that names the traces' endpoint, and its value.
fn named_endpoint(variable: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .into_iter()
        .find_map(|name| set(variable, name).map(|value| (name, value)))
}

fn has_scheme(endpoint: &str) -> bool {
    endpoint.starts_with("http://") || endpoint.starts_with("https://")
}

/// Warnings about variables of the exporter that have no effect.
pub(super) fn warnings(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(protocol) = set(variable, name).filter(|protocol| protocol != "grpc") {
            warnings.push(format!("{name}={protocol:?} is not supported: traces use grpc"));
        }
    }
    if let Some(exporter) = set(variable, "OTEL_TRACES_EXPORTER")
        .filter(|name| !matches!(name.as_str(), "otlp" | "none"))
    {
        warnings
            .push(format!("OTEL_TRACES_EXPORTER={exporter:?} is not supported: traces use otlp"));
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"] {
        if let Some(text) = set(variable, name).filter(|text| text.parse::<u64>().is_err()) {
            warnings.push(format!("{name}={text:?} is no number of milliseconds, and is not used"));
        }
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] {
        let is_pair = |part: &str| part.trim().is_empty() || part.contains('=');
        if set(variable, name).is_some_and(|headers| !headers.split(',').all(is_pair)) {
            // Its value may have a token.
            warnings.push(format!("{name} has a part that is not KEY=VALUE, which is not sent"));
        }
    }
    if let Some((name, _)) = named_endpoint(variable).filter(|(_, url)| !has_scheme(url)) {
        // Its value may have a password.
        warnings.push(format!(
            "{name} does not begin with http:// or https://: no traces are exported"
        ));
    }
    warnings
}

/// The files for TLS with the collector.
#[derive(Debug, Default)]
struct TlsFiles {
    authorities: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let identity = match (pem(variable, "CLIENT_CERTIFICATE")?, pem(variable, "CLIENT_KEY")?) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            _ => return Err(Error::HalfIdentity),
        };
        let authorities = pem(variable, "CERTIFICATE")?;
        if let Some(pem) = &authorities
            && CertificateDer::pem_slice_iter(pem).next().is_none_or(|found| found.is_err())
        {
            // Without this, the exporter would trust no collector.
            return Err(Error::NoCertificates);
        }
        Ok(Self { authorities, identity })
    }

    fn config(&self) -> ClientTlsConfig {
        let mut tls = ClientTlsConfig::new().with_enabled_roots();
        if let Some(pem) = &self.authorities {
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        if let Some((chain, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        tls
    }
}

/// The file that a variable names, for traces or for all signals.
fn pem(variable: &dyn Fn(&str) -> Option<String>, what: &str) -> Result<Option<Vec<u8>>, Error> {
    for name in [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
    {
        if let Some(path) = set(variable, &name).map(PathBuf::from) {
            let read = std::fs::read(path);
            return read.map(Some).map_err(|error| Error::File { name, error });
        }
    }
    Ok(None)
}

/// Exports traces, and logs when that begins to fail, why, and when it works again.
#[derive(Debug)]
pub(super) struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    collector: Endpoint,
    tls: TlsFiles,
    /// Exports run on a thread without one.
    runtime: Handle,
    /// The failure that was logged last, until an export succeeds.
    logged: Mutex<Option<String>>,
}

impl Exporter {
    /// An exporter to this endpoint. Must be called inside a tokio runtime.
    pub(super) fn new(
        variable: &dyn Fn(&str) -> Option<String>,
        endpoint: String,
    ) -> Result<Self, Error> {
        let invalid = |error: &dyn std::error::Error| {
            ExporterBuildError::InvalidConfiguration(format!("{endpoint}: {error}"))
        };
        let mut collector =
            Endpoint::from_shared(endpoint.clone()).map_err(|error| invalid(&error))?;
        let mut builder = opentelemetry_otlp::SpanExporter::builder().with_tonic();
        let mut tls = TlsFiles::default();
        if endpoint.starts_with("https://") {
            tls = TlsFiles::read(variable)?;
            collector = collector.tls_config(tls.config()).map_err(|error| invalid(&error))?;
            builder = builder.with_tls_config(tls.config());
        }
        Ok(Self {
            inner: builder.with_endpoint(endpoint).build()?,
            collector,
            tls,
            runtime: Handle::current(),
            logged: Mutex::default(),
        })
    }

    /// The fault of the connection. The library's error has lost it.
    async fn fault(&self) -> Option<TlsFault> {
        let (collector, url) = (self.collector.clone(), self.collector.uri().to_string());
        let identity = self.tls.identity.as_ref();
        let identity = identity.and_then(|(chain, key)| ClientIdentity::from_pem(chain, key));
        let find = async move {
            match collector.connect().await {
                Err(error) => TlsFault::find(&error),
                Ok(_) => probe(&url, identity).await,
            }
        };
        let found = self.runtime.spawn(async { timeout(PATIENCE, find).await });
        found.await.ok()?.ok()?
    }
}

impl SpanExporter for Exporter {
    /// Always succeeds for the library, which would log each failed batch.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.inner.export(batch).await;
        let why = match exported {
            Ok(()) => None,
            Err(error) => Some(match self.fault().await {
                Some(fault) => format!("{fault}; {}", fault.remedy(&REMEDIES)),
                None => error.to_string().trim_start_matches(LIBRARY).to_owned(),
            }),
        };
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != why {
            let collector = self.collector.uri();
            match &why {
                Some(why) => tracing::warn!(%collector, why, "traces are not exported"),
                None => tracing::info!(%collector, "traces are exported again"),
            }
            *logged = why;
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
