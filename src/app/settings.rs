//! Conversion of the configuration to the modules' settings.

use std::path::PathBuf;

use super::drain::{DrainTimeouts, kept_for_traces};
use super::{Error, descriptors, gateway};
use crate::admission::Limits;
use crate::config::{Config, LedgerUrl, Server};
use crate::ledger::Bounds;
use crate::ledger::redis::{
    Identity, Login, RedisSettings, RedisTls, ServerAddr, Servers, SharedSettings,
};
use crate::listen::ConnectionLimits;
use crate::rate_limit::{InvalidRate, Rates};
use crate::{ens, grpc, watch};

/// The gateway's settings.
pub(super) fn gateway_settings(config: &Config, rates: Rates) -> gateway::Settings {
    let share = |of: usize| (of * config.grpc.peer_share).div_ceil(100);
    let connections = config.grpc.max_connections.min(descriptors::for_connections());
    let drain_timeout = config.grpc.drain_timeout - kept_for_traces(config.grpc.drain_timeout);
    gateway::Settings {
        attempt_timeout: config.ens.attempt_timeout,
        watch: watch::Settings {
            heartbeat: config.watch.heartbeat,
            max_age: config.watch.max_age,
            describes_per_peer: rates.reads_per_second() * config.grpc.peer_share as f64 / 100.0,
        },
        limits: Limits {
            attaches: config.grpc.max_in_flight,
            reads: config.grpc.max_in_flight,
            streams: config.watch.max_streams,
            streams_per_peer: share(config.watch.max_streams),
        },
        server: grpc::server::Settings {
            connections: ConnectionLimits { total: connections, per_peer: share(connections) },
            max_connection_age: config.grpc.max_connection_age,
            drain_timeout: drain_timeout.saturating_sub(config.grpc.drain_delay),
            ..grpc::server::Settings::default()
        },
        drain: DrainTimeouts { delay: config.grpc.drain_delay, timeout: drain_timeout },
    }
}

/// The ENS client's settings.
pub(super) fn ens_settings(config: &Config) -> ens::Settings {
    ens::Settings {
        endpoint: config.ens.endpoint.url().clone(),
        proxy: config.ens.proxy.as_ref().map(|proxy| proxy.url().clone()),
        attempt_timeout: config.ens.attempt_timeout,
        describe_timeout: config.ens.describe_timeout,
        request_validity: config.ens.request_validity,
        enforce_validity: config.ens.enforce_validity,
        ..ens::Settings::default()
    }
}

/// The ledger's bounds.
#[cfg_attr(
    not(feature = "mutations"),
    expect(clippy::needless_update, reason = "only a build with mutations has a further field")
)]
pub(super) fn bounds(config: &Config) -> Bounds {
    Bounds {
        lag: config.ens.visibility_lag,
        validity: config.ens.request_validity,
        lease: config.ledger.lease,
        failover_window: config.ledger.failover_window,
        limit: config.limit.enis_per_instance,
        count_primary: config.limit.count_primary,
        stuck_after: config.tracker.stuck_after,
        reconcile_after: config.tracker.reconcile_after,
        ..Bounds::default()
    }
}

/// The account's rates.
pub(super) fn rates(config: &Config) -> Result<Rates, InvalidRate> {
    Rates::new(config.ens.attach_per_second.into(), config.ens.describe_per_second.into())
}

/// The settings of a Redis ledger; `None` for one in memory.
///
/// # Errors
/// A file cannot be read, or a rate is out of bounds.
pub(super) fn redis_settings(config: &Config) -> Result<Option<RedisSettings>, Error> {
    let ledger = &config.ledger;
    let place = |server: &Server| ServerAddr::Tcp(server.host.clone(), server.port);
    let (servers, db) = match &ledger.url {
        LedgerUrl::Memory => return Ok(None),
        LedgerUrl::Redis { server, db, .. } => (Servers::One(place(server)), *db),
        LedgerUrl::Unix { path, db } => (Servers::One(ServerAddr::Unix(path.clone())), *db),
        LedgerUrl::Sentinel { sentinels, master, db, .. } => {
            let sentinels = sentinels.iter().map(place).collect();
            let master = master.clone();
            (Servers::Sentinels { sentinels, master }, *db)
        }
        LedgerUrl::Cluster { nodes, .. } => {
            (Servers::Cluster(nodes.iter().map(place).collect()), 0)
        }
    };
    let read = |setting, path: &Option<PathBuf>| {
        let read = path.as_ref().map(std::fs::read).transpose();
        read.map_err(|source| Error::File { setting, source })
    };
    let tls = ledger.url.is_tls().then(|| {
        let chain = read("ledger.cert_file", &ledger.cert_file)?;
        let key = read("ledger.key_file", &ledger.key_file)?;
        let identity = chain.zip(key).map(|(chain, key)| Identity { chain, key: key.into() });
        let authorities = read("ledger.ca_file", &ledger.ca_file)?;
        Ok::<_, Error>(RedisTls { authorities, identity })
    });
    let password = ledger
        .password()
        .map_err(|source| Error::File { setting: "ledger.password_file", source })?;
    let setting = "ledger.sentinel_password_file";
    let sentinel_password =
        ledger.sentinel_password().map_err(|source| Error::File { setting, source })?;
    let user = ledger.url.login().and_then(|login| login.user.clone());
    Ok(Some(RedisSettings {
        tls: tls.transpose()?,
        login: Login { user, password },
        sentinel_password,
        db,
        prefix: ledger.prefix.clone(),
        shared_settings: SharedSettings {
            bounds: bounds(config).shared(),
            synced: ledger.sync_replicas > 0,
        },
        sync_replicas: ledger.sync_replicas,
        reconcile_horizon: bounds(config).reconcile_horizon(),
        fresh: ledger.fresh,
        rates: rates(config)?,
        response_timeout: ledger.timeout / 2,
        connect_timeout: ledger.timeout,
        ..RedisSettings::new(servers)
    }))
}
