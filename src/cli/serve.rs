//! `serve`: the gateway itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::app::check;
use crate::app::{self, credentials};
use crate::config::value::Value as _;
use crate::config::{self, Config, Fault, Faults, Loaded, Sources};
use crate::telemetry::{self, AuditOutput, LogFilter, LogFormat};

/// Maximum time to write the last log lines of a start that failed.
const MAX_FLUSH: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Settings come from the file, then from ENI_GATEWAY_SECTION__KEY in the environment, then from flags; \
`eni-gateway config dump` lists them all.

Examples:
  eni-gateway serve --ledger-url redis://127.0.0.1:6379/0
  eni-gateway serve --config /etc/eni-gateway.toml
  ENI_GATEWAY_LEDGER__URL=memory:// eni-gateway serve \\
    --ens-endpoint http://127.0.0.1:18080";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// The settings' file, and flags for the most common settings.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct Settings {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the gRPC listener [setting: grpc.listen]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Address of /livez, /readyz and /metrics [setting: admin.listen]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    admin_listen: Option<SocketAddr>,
    /// URL of the ledger; use ledger.password_file for a password [setting: ledger.url]
    #[arg(long, value_name = "URL")]
    ledger_url: Option<String>,
    /// URL of the OpenAPI [setting: ens.endpoint]
    #[arg(long, value_name = "URL")]
    ens_endpoint: Option<String>,
}

impl Settings {
    /// The sources of the configuration.
    pub(super) fn sources(self) -> Sources {
        Sources::of_process(self.config)
            .flag("--listen", "grpc.listen", self.listen)
            .flag("--admin-listen", "admin.listen", self.admin_listen)
            .flag("--ledger-url", "ledger.url", self.ledger_url)
            .flag("--ens-endpoint", "ens.endpoint", self.ens_endpoint)
    }

    /// The configuration, from all its sources.
    pub(super) fn load(self) -> Result<Loaded, Faults> {
        config::load(self.sources())
    }
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let prepared = prepare(args.settings).await;
    let loaded = prepared.as_ref().ok().map(|(loaded, _)| loaded);
    let settings = telemetry_settings(loaded.map(|loaded| &loaded.config));
    let limit =
        loaded.map_or(MAX_FLUSH, |loaded| app::kept_for_traces(loaded.config.grpc.drain_timeout));
    let logs = log_settings(loaded.map(|loaded| &loaded.config));
    let telemetry = telemetry::init(settings, &logs).map_err(|error| Error::failed(&error))?;
    let served = match prepared {
        Ok((loaded, credentials)) => serve(&loaded, credentials, telemetry.filter.clone()).await,
        Err(error) => Err(error),
    };
    let ended = match served {
        // One more line of JSON among the others.
        Err(error) if settings.format == LogFormat::Json => {
            tracing::error!("{error}");
            Err(Error::Logged(error.exit()))
        }
        ended => ended,
    };
    telemetry.flush(limit).await;
    ended
}

/// The format of log lines, and what decides about traces. Without a valid configuration, the
/// variable of `log.format` still counts.
fn telemetry_settings(config: Option<&Config>) -> telemetry::Settings {
    let variable = |name: &str| std::env::var(name).ok();
    let wanted = config.map(|config| config.log.format).or_else(|| {
        let setting = config::settings::find("log.format")?;
        config::LogFormat::parse(&variable(&setting.env_name())?).ok()
    });
    let format = match wanted {
        Some(config::LogFormat::Json) => LogFormat::Json,
        Some(config::LogFormat::Text) => LogFormat::text(&variable),
        Some(config::LogFormat::Auto) | None => LogFormat::detect(&variable),
    };
    let follow_sampling = config.is_some_and(|config| config.grpc.follow_sampling);
    telemetry::Settings { format, follow_sampling }
}

/// Where log lines go, and which. Without a valid configuration, all go to standard error.
fn log_settings(config: Option<&Config>) -> telemetry::LogSettings {
    config.map_or_else(telemetry::LogSettings::default, |config| telemetry::LogSettings {
        audit: match &config.log.audit {
            config::AuditOutput::Stderr => AuditOutput::Stderr,
            config::AuditOutput::Stdout => AuditOutput::Stdout,
            config::AuditOutput::File(path) => AuditOutput::File(path.clone()),
        },
        filter_file: config.log.filter_file.clone(),
    })
}

/// Loads settings and credentials, and reports all their faults together.
async fn prepare(settings: Settings) -> Result<(Loaded, credentials::Provider), Error> {
    let (loaded, mut faults) = config::read(settings.sources());
    check::add_file_faults(&loaded.config, &mut faults).await;
    match (credentials::discover(loaded.config.ens.proxy.as_ref()).await, faults.0.is_empty()) {
        (Ok(credentials), true) => return Ok((loaded, credentials)),
        (Ok(_), false) => {}
        (Err(error), _) => {
            faults.add(Fault::new("ENS credentials", error.to_string(), error.remedy()));
        }
    }
    Err(Error::Usage(faults.to_string()))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "not an address of the form IP:PORT, such as 127.0.0.1:50051")
}

async fn serve(
    loaded: &Loaded,
    credentials: credentials::Provider,
    log_filter: Option<LogFilter>,
) -> Result<(), Error> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let bound = app::Bound::bind(&loaded.config).await.map_err(|error| match &error {
        app::Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Error::Failed(format!(
            "{error}\n  what to do: a second replica on this machine needs --listen and --admin-listen"
        )),
        _ => Error::failed(&error),
    })?;
    // Installed before the start is announced.
    let stop = stop_signal()?;
    if let (Ok(grpc), Ok(admin)) = (bound.grpc_address(), bound.admin_address()) {
        tracing::info!(%grpc, %admin, credentials = credentials.source(), "listening");
    }
    outlive_signals()?;
    let stop = stop.cancelled_owned();
    let served = app::run(&loaded.config, bound, credentials, log_filter, stop).await;
    served.map_err(|error| Error::failed(&error))
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::failed(&error))
}

/// Keeps signals that are no request to stop from ending the process. Changed files are read again
/// without SIGHUP.
fn outlive_signals() -> Result<(), Error> {
    let mut hang_up = listen(SignalKind::hangup())?;
    let (mut user1, mut user2) =
        (listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?);
    #[expect(
        clippy::disallowed_methods,
        reason = "lives as long as the process, and has no waiter"
    )]
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hang_up.recv() => tracing::info!(
                    "SIGHUP: certificates, policy and log filter are read again; other settings need \
                     a restart"
                ),
                _ = user1.recv() => tracing::info!("SIGUSR1 has no effect"),
                _ = user2.recv() => tracing::info!("SIGUSR2 has no effect"),
            }
        }
    });
    Ok(())
}

/// A token that the first SIGTERM, SIGINT or SIGQUIT cancels; the second one ends the process.
pub(super) fn stop_signal() -> Result<CancellationToken, Error> {
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut quit = listen(SignalKind::quit())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "lives as long as the process, and has no waiter"
    )]
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => {}
            }
            if second {
                tracing::warn!("second stop signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing attempts in flight");
            token.cancel();
        }
    });
    Ok(stop)
}
