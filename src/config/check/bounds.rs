//! Times that the ledger's safety depends on.

use std::time::Duration;

use super::checks::{Checks, shown};
use crate::config::Config;

/// Minimum rest of the lease after the longest critical section.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Maximum time under an instance's lock: a describe, the reservation, one Attach call, and the
/// record of its result.
#[must_use]
pub fn longest_under_lock(config: &Config) -> Duration {
    let trips = if config.ledger.sync_replicas > 0 { 3 } else { 2 };
    config.ens.describe_timeout + config.ens.attempt_timeout + config.ledger.timeout * trips
}

pub(super) fn bounds(config: &Config, checks: &mut Checks<'_>) {
    let needed = longest_under_lock(config) + LEASE_MARGIN;
    checks.require(
        &[
            "ledger.lease",
            "ens.attempt_timeout",
            "ens.describe_timeout",
            "ledger.timeout",
            "ledger.sync_replicas",
        ],
        config.ledger.lease >= needed,
        || {
            let lease = shown(config.ledger.lease);
            format!(
                "a lease of {lease} is shorter than the critical section, {} with a margin of 1s",
                shown(needed)
            )
        },
        "raise ledger.lease, or lower a timeout",
    );
    let grace = config.ens.visibility_lag + config.ens.request_validity;
    checks.require(
        &["tracker.stuck_after", "ens.visibility_lag", "ens.request_validity"],
        config.tracker.stuck_after > grace,
        || {
            let stuck = shown(config.tracker.stuck_after);
            format!(
                "{stuck} is too short: an unanswered attempt takes up to {} to settle",
                shown(grace)
            )
        },
        "raise tracker.stuck_after",
    );
    checks.require(
        &["grpc.drain_delay", "grpc.drain_timeout"],
        config.grpc.drain_delay < config.grpc.drain_timeout,
        || "the shutdown would end before it refuses calls".to_owned(),
        "raise grpc.drain_timeout, or lower grpc.drain_delay",
    );
    checks.require(
        &["watch.max_age", "watch.heartbeat"],
        config.watch.max_age > config.watch.heartbeat,
        || "a stream would end before its first heartbeat".to_owned(),
        "raise watch.max_age, or lower watch.heartbeat",
    );
}
