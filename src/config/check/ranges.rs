//! Ranges of numbers and durations.

use std::time::Duration;

use super::checks::{Checks, shown};
use crate::config::Config;

pub(super) fn numbers(config: &Config, checks: &mut Checks<'_>) {
    // A larger number is a typing error, and some structures cannot have that size.
    const MOST: usize = 1_000_000;
    let mut within = |path: &'static str, value: usize, least: usize, most: usize| {
        let problem = || format!("{value} is not between {least} and {most}");
        checks.require(
            &[path],
            (least..=most).contains(&value),
            problem,
            "set it to a number in between",
        );
    };
    within("grpc.max_in_flight", config.grpc.max_in_flight, 1, MOST);
    within("grpc.max_connections", config.grpc.max_connections, 1, MOST);
    within("grpc.peer_share", config.grpc.peer_share, 1, 100);
    within("ledger.sync_replicas", config.ledger.sync_replicas, 0, 100);
    // The budget counts microseconds, so it would be inexact above this.
    const FASTEST: usize = 100_000;
    let (attach, describe) = (config.ens.attach_per_second, config.ens.describe_per_second);
    within("ens.attach_per_second", attach as usize, 1, FASTEST);
    // One for callers, one for the tracker.
    within("ens.describe_per_second", describe as usize, 2, FASTEST);
    within("limit.enis_per_instance", config.limit.enis_per_instance, 1, 1000);
    within("watch.max_streams", config.watch.max_streams, 1, MOST);

    let mut lasts = |path: &'static str, value: Duration, least: Duration| {
        let problem = || format!("{} is less than {}", shown(value), shown(least));
        checks.require(
            &[path],
            value >= least,
            problem,
            &format!("set it to {} or more", shown(least)),
        );
    };
    let millisecond = Duration::from_millis(1);
    let second = Duration::from_secs(1);
    lasts("grpc.max_connection_age", config.grpc.max_connection_age, second);
    lasts("ledger.timeout", config.ledger.timeout, millisecond);
    lasts("ens.attempt_timeout", config.ens.attempt_timeout, millisecond);
    lasts("ens.describe_timeout", config.ens.describe_timeout, millisecond);
    lasts("tracker.reconcile_after", config.tracker.reconcile_after, second);
    lasts("watch.heartbeat", config.watch.heartbeat, second);
}
