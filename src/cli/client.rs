//! The client commands' connection to the gateway.

mod diagnosis;
mod variables;

use std::future::Future;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::error::Error;
use super::output::Format;
use crate::grpc::proto::attachment_service_client::AttachmentServiceClient;

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default timeout of a call, also assumed by the gateway.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of all client commands.
#[derive(Debug, Clone, clap::Args)]
#[command(
    next_help_heading = "Connection and output, also as variables such as ENI_GATEWAY_CLIENT_CA"
)]
pub(super) struct Options {
    /// URL of the gateway; https:// for TLS
    #[arg(
        long,
        value_name = "URL",
        env = "ENI_GATEWAY_CLIENT_ENDPOINT",
        hide_env = true,
        default_value = "http://127.0.0.1:50051"
    )]
    pub(super) endpoint: String,
    /// Name that the gateway's certificate must have, instead of the endpoint's host
    #[arg(long, value_name = "NAME", env = "ENI_GATEWAY_CLIENT_SERVER_NAME", hide_env = true)]
    server_name: Option<String>,
    /// CA bundle (PEM) that verifies the gateway, instead of the system's
    #[arg(long, value_name = "FILE", env = "ENI_GATEWAY_CLIENT_CA", hide_env = true)]
    ca: Option<PathBuf>,
    /// Client certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "ENI_GATEWAY_CLIENT_CERT",
        hide_env = true,
        requires = "key"
    )]
    cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "ENI_GATEWAY_CLIENT_KEY",
        hide_env = true,
        requires = "cert"
    )]
    key: Option<PathBuf>,
    /// Send the token in this file as `authorization: Bearer`
    #[arg(long, value_name = "FILE", env = "ENI_GATEWAY_CLIENT_TOKEN_FILE", hide_env = true)]
    token_file: Option<PathBuf>,
    /// Timeout for the command, such as 10s or 2m [default: 30s; for a watch, none]
    #[arg(
        long,
        value_name = "TIME",
        env = "ENI_GATEWAY_CLIENT_TIMEOUT",
        hide_env = true,
        value_parser = some_time
    )]
    pub(super) timeout: Option<Duration>,
    /// Output: columns for people, or one JSON object a line
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        env = "ENI_GATEWAY_CLIENT_OUTPUT",
        hide_env = true,
        default_value = "table"
    )]
    pub(super) output: Format,
}

/// A connected client.
pub(super) type Client = AttachmentServiceClient<InterceptedService<Channel, Bearer>>;

/// Adds the caller's token to each call. Its file is read for each call, because tokens expire and
/// are renewed while a watch resumes its streams.
#[derive(Clone)]
pub(super) struct Bearer(Option<PathBuf>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(path) = &self.0 {
            let token = bearer(path).map_err(|error| Status::unauthenticated(error.to_string()))?;
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

impl Options {
    /// Default options for the gateway at this URL.
    pub(super) fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            server_name: None,
            ca: None,
            cert: None,
            key: None,
            token_file: None,
            timeout: None,
            output: Format::Table,
        }
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        // A file without a token is reported before a connection is tried.
        self.token_file.as_deref().map(bearer).transpose()?;
        let bearer = Bearer(self.token_file.clone());
        let connected = self.endpoint()?.connect().await;
        let channel = connected.map_err(|error| diagnosis::of_connect(&self.endpoint, &error))?;
        Ok(AttachmentServiceClient::with_interceptor(channel, bearer))
    }

    /// A request with the call's deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(CALL_TIMEOUT));
        request
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        // The endpoint may hold a password, so it is not quoted.
        if self.endpoint.contains('@') {
            let why =
                "--endpoint has no user and no password: use --cert, or the token in --token-file";
            return Err(Error::Usage(why.to_owned()));
        }
        let usage = |problem: &dyn std::fmt::Display| {
            Error::Usage(format!("--endpoint {}: {problem}", self.endpoint))
        };
        let endpoint =
            Endpoint::from_shared(self.endpoint.clone()).map_err(|error| usage(&error))?;
        if !matches!(endpoint.uri().path(), "" | "/") || endpoint.uri().query().is_some() {
            return Err(usage(&"must end with the port, without a path"));
        }
        if self.token_file.is_some()
            && endpoint.uri().scheme_str() == Some("http")
            && !is_loopback(&endpoint)
        {
            return Err(usage(
                &"--token-file would be readable on the network: use an --endpoint with https://",
            ));
        }
        let endpoint = endpoint.connect_timeout(
            self.timeout.map_or(CONNECT_TIMEOUT, |most| most.min(CONNECT_TIMEOUT)),
        );
        match endpoint.uri().scheme_str() {
            Some("https") => endpoint.tls_config(self.tls()?).map_err(|error| {
                Error::Usage(match diagnosis::innermost(&error) {
                    // rustls' words.
                    text if text.contains("KeyMismatch") => {
                        "--key is not the private key of --cert".to_owned()
                    }
                    text => text,
                })
            }),
            Some("http")
                if self.ca.is_some() || self.cert.is_some() || self.server_name.is_some() =>
            {
                let why = "--ca, --cert, --key and --server-name need TLS: use an --endpoint with \
                           https://";
                Err(Error::Usage(why.to_owned()))
            }
            Some("http") => Ok(endpoint),
            _ => {
                let address = self.endpoint.rsplit("//").next().unwrap_or_default();
                Err(usage(&format_args!(
                    "must start with http:// or https://, such as http://{address}"
                )))
            }
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = match &self.ca {
            Some(ca) => {
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificates(ca)?))
            }
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(certificates(cert)?, private_key(key)?));
        }
        Ok(tls)
    }
}

/// Maximum timeout: clocks cannot count much longer ones.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("must be longer than 0s".to_owned()),
        Ok(time) if time > LONGEST_TIMEOUT => Err("must be at most a year".to_owned()),
        time => time.map_err(|error| error.to_string()),
    }
}

/// Whether the endpoint is on this machine.
fn is_loopback(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
}

/// Reads a file of certificates. tonic accepts one without, and then trusts no server.
fn certificates(path: &Path) -> Result<Vec<u8>, Error> {
    let pem = read(path)?;
    let mut found = CertificateDer::pem_slice_iter(&pem).peekable();
    if found.peek().is_none() || found.any(|certificate| certificate.is_err()) {
        return Err(Error::Usage(format!("{} has no certificates in PEM form", path.display())));
    }
    Ok(pem)
}

/// Reads a file with a private key.
fn private_key(path: &Path) -> Result<Vec<u8>, Error> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| Error::Usage(format!("{} has no private key in PEM form", path.display())))?;
    Ok(pem)
}

fn bearer(path: &Path) -> Result<MetadataValue<Ascii>, Error> {
    let no_token = || {
        Error::Usage(format!(
            "{} has no token: it must be one line of visible ASCII",
            path.display()
        ))
    };
    let token = String::from_utf8(read(path)?).map_err(|_| no_token())?;
    let token = token.trim();
    if token.is_empty() {
        return Err(no_token());
    }
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| no_token())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Runs a client command to its end. A broken connection is explained by its cause.
pub(super) fn block_on(
    options: Options,
    command: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let known = Options::augment_args(clap::Command::new("client"));
    for warning in variables::warnings(&known, names) {
        writeln!(anstream::stderr(), "warning: {warning}")?;
    }
    // It fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        match command.await {
            Err(error) => {
                let identity = options.cert.as_deref().zip(options.key.as_deref());
                Err(diagnosis::of_call(&options.endpoint, identity, error).await)
            }
            done => done,
        }
    })
}

#[cfg(test)]
mod tests {
    use tonic::service::Interceptor as _;

    use super::*;

    #[test]
    fn each_call_has_the_token_that_the_file_has_then() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut interceptor = Bearer(Some(file.path().to_owned()));
        let mut token = |content: &str| {
            std::fs::write(file.path(), content).expect("written");
            let request = interceptor.call(Request::new(()));
            request.map(|request| request.metadata().get("authorization").cloned())
        };
        assert_eq!(token("one\n").expect("a token").expect("sent"), "Bearer one");
        assert_eq!(token("two").expect("a token").expect("sent"), "Bearer two");
        assert_eq!(token(" ").expect_err("none").code(), tonic::Code::Unauthenticated);
    }
}
