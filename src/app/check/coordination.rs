//! Checks of the ledger's server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{CheckFailure, CheckResult};
use crate::app::Error;
use crate::app::settings::redis_settings;
use crate::config::Config;
use crate::ledger::redis::{InspectError, Inspection, LedgerState, inspect};

const PART: &str = "ledger";

/// Minimum clock difference that is reported. Attachments carry the server's times.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Checks the ledger.
///
/// # Errors
/// The ledger cannot be built from the settings.
pub async fn coordination(config: &Config) -> Result<Vec<CheckResult>, Error> {
    let url = &config.ledger.url;
    let Some(settings) = redis_settings(config)? else {
        return Ok(vec![CheckResult::good(
            PART,
            format!("{url} is in this process, and needs no connection"),
        )]);
    };
    let hold_down = settings.shared_settings.recovery_hold_down();
    Ok(match inspect(settings).await {
        Ok(found) => results(config, hold_down, found),
        Err(InspectError::Settings(error)) => return Err(error.into()),
        Err(error @ InspectError::Unreachable(_)) => {
            let remedy = "check ledger.url, and whether redis runs there and admits this machine";
            vec![CheckResult::failed(
                PART,
                CheckFailure::Unreachable,
                format!("{url}: {error}"),
                remedy,
            )]
        }
        Err(InspectError::Unusable { why, remedy }) => {
            let message = format!("{url}: it cannot be used: {why}");
            vec![CheckResult::failed(PART, CheckFailure::Unreachable, message, remedy)]
        }
        Err(ref error @ InspectError::Refused { remedy, .. }) => {
            vec![CheckResult::failed(PART, CheckFailure::Other, format!("{url}: {error}"), remedy)]
        }
    })
}

fn results(config: &Config, hold_down: Duration, found: Inspection) -> Vec<CheckResult> {
    let Inspection { server, round_trip, now, misconfigured, warnings, refusing, standing, frozen } =
        found;
    let trip = round_trip.as_secs_f64() * 1e3;
    let mut results = vec![CheckResult::good(
        PART,
        format!("{}: {server}, {trip:.1} ms a round trip", config.ledger.url),
    )];
    let remedy = "change it in redis' configuration; nothing is attached before";
    results.extend(
        misconfigured
            .into_iter()
            .map(|why| CheckResult::failed(PART, CheckFailure::Other, why, remedy)),
    );
    results.extend(refusing.into_iter().map(|why| {
        let message = format!("redis accepts no writes, and nothing is attached before: {why}");
        CheckResult::failed(PART, CheckFailure::Other, message, write_remedy(&why))
    }));
    results.extend(
        warnings
            .into_iter()
            .map(|warning| CheckResult::warning(PART, warning.message, warning.remedy)),
    );
    results.push(epochs(standing, hold_down, config.ledger.fresh));
    let remedy = "none, if it is intended; `eni-gateway ledger unfreeze` ends it";
    results.extend(frozen.describe().map(|why| CheckResult::warning(PART, why, remedy)));
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    results.push(clock(Duration::from_micros(now.as_micros()), here));
    results
}

/// The remedy for a refusal to write.
fn write_remedy(why: &str) -> &'static str {
    if why.contains("OOM") || why.contains("maxmemory") {
        "raise redis' maxmemory, or remove other data"
    } else if why.contains("NOREPLICAS") {
        "connect the replicas that redis' min-replicas-to-write demands"
    } else if why.contains("MISCONF") {
        "repair redis' disk: it cannot save"
    } else {
        "run the gateway near redis: a round trip should take less than 100 ms"
    }
}

fn epochs(standing: LedgerState, hold_down: Duration, fresh: bool) -> CheckResult {
    let seconds = hold_down.as_secs();
    match standing {
        LedgerState::Open => CheckResult::good(PART, "open: no partition is recovering"),
        LedgerState::Empty if fresh => {
            CheckResult::good(PART, "empty, and declared new by ledger.fresh")
        }
        LedgerState::Empty => CheckResult::warning(
            PART,
            format!(
                "empty: replicas take it for one that lost its data, and attach nothing for {seconds} s"
            ),
            "run `eni-gateway ledger init` once if it is new",
        ),
        LedgerState::Lost(partitions) => CheckResult::warning(
            PART,
            format!(
                "the server restarted, failed over or lost data: when a replica connects, \
                 {partitions} of its partitions recover for {seconds} s"
            ),
            "none: they recover by themselves",
        ),
        LedgerState::Recovering(partitions, rest) => CheckResult::warning(
            PART,
            format!(
                "{partitions} partitions are recovering for another {:.0} s",
                rest.as_secs_f64()
            ),
            "wait",
        ),
        LedgerState::OtherVersion(why) => CheckResult::failed(
            PART,
            CheckFailure::Other,
            why,
            "run the version that wrote the ledger, or the next one",
        ),
    }
}

fn clock(server: Duration, here: Duration) -> CheckResult {
    let apart = server.abs_diff(here);
    let side = if server > here { "ahead of" } else { "behind" };
    let message = format!("redis' clock is {:.3} s {side} this machine's", apart.as_secs_f64());
    if apart <= CLOCK_TOLERANCE {
        CheckResult::good("clock", message)
    } else {
        CheckResult::warning(
            "clock",
            message,
            "synchronise both (ntp): the times of attachments use redis' clock",
        )
    }
}
