//! The configuration, in the terms of those who are put together from it.

use super::{Error, gateway};
use crate::admission::Limits;
use crate::config::{Config, LedgerUrl};
use crate::ledger::redis::{Agreement, RedisSettings};
use crate::ledger::tokens::InvalidRate;
use crate::ledger::{Bounds, Rates};
use crate::{ens, grpc, watch};

/// How the gateway behaves.
pub(super) fn gateway_settings(config: &Config) -> gateway::Settings {
    gateway::Settings {
        attempt_timeout: config.ens.attempt_timeout,
        watch: watch::Settings {
            heartbeat: config.watch.heartbeat,
            max_age: config.watch.max_age,
        },
        limits: Limits {
            attaches: config.grpc.max_in_flight,
            reads: config.grpc.max_in_flight,
            streams: config.watch.max_streams,
        },
        server: grpc::server::Settings {
            max_connection_age: config.grpc.max_connection_age,
            drain_timeout: config.grpc.drain_timeout.saturating_sub(config.grpc.drain_delay),
            ..grpc::server::Settings::default()
        },
        drain: gateway::Times {
            delay: config.grpc.drain_delay,
            timeout: config.grpc.drain_timeout,
        },
    }
}

/// The ENS client's settings.
pub(super) fn ens_settings(config: &Config) -> ens::Settings {
    ens::Settings {
        endpoint: config.ens.endpoint.url().clone(),
        attempt_timeout: config.ens.attempt_timeout,
        describe_timeout: config.ens.describe_timeout,
        request_validity: config.ens.request_validity,
        enforce_validity: config.ens.enforce_validity,
        ..ens::Settings::default()
    }
}

/// The bounds of the ledger's rules.
pub(super) fn bounds(config: &Config) -> Bounds {
    Bounds {
        lag: config.ens.visibility_lag,
        validity: config.ens.request_validity,
        lease: config.ledger.lease,
        failover_window: config.ledger.failover_window,
        limit: config.limit.enis_per_instance,
        count_primary: config.limit.count_primary,
        stuck_after: config.tracker.stuck_after,
        compare_after: config.tracker.compare_after,
    }
}

/// The account's rates.
pub(super) fn rates(config: &Config) -> Result<Rates, InvalidRate> {
    Rates::new(
        config.ens.attach_per_second.into(),
        config.ens.describe_per_second.into(),
    )
}

/// The settings of a ledger in Redis.
///
/// # Errors
/// The password file cannot be read, or a rate is out of bounds.
pub(super) fn redis_settings(config: &Config, url: &LedgerUrl) -> Result<RedisSettings, Error> {
    Ok(RedisSettings {
        url: url.with_secrets(),
        password: config.ledger.password().map_err(Error::Password)?,
        prefix: config.ledger.prefix.clone(),
        agreement: Agreement {
            limit: config.limit.enis_per_instance,
            count_primary: config.limit.count_primary,
        },
        hold: bounds(config).hold(),
        fresh: config.ledger.fresh,
        rates: rates(config)?,
        response_timeout: config.ledger.timeout / 2,
        connect_timeout: config.ledger.timeout,
    })
}
