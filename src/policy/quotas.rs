//! The quotas of callers in the file of a policy.

use serde::Deserialize;
use toml::Table;

use super::entries::entries;
use super::pattern::{Pattern, is_caller};

/// Maxima for one caller on one replica; `None` for no maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls a second. A second's calls may come at once.
    pub calls_per_second: Option<u32>,
    /// Attaches in flight.
    pub attaches_in_flight: Option<usize>,
    /// Open watch streams.
    pub watch_streams: Option<usize>,
    /// Different request ids of attaches in an hour.
    pub request_ids_per_hour: Option<usize>,
}

/// The quota of each caller that one of the patterns matches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuotaRule {
    callers: Vec<Pattern>,
    pub(super) quota: Quota,
}

impl QuotaRule {
    pub(super) fn is_for(&self, caller: &str) -> bool {
        self.callers.iter().any(|pattern| pattern.matches(caller))
    }
}

/// A quota as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaText {
    callers: Vec<String>,
    calls_per_second: Option<u32>,
    attaches_in_flight: Option<usize>,
    watch_streams: Option<usize>,
    request_ids_per_hour: Option<usize>,
}

/// The quotas of the file, in its order.
pub(super) fn read(table: &Table, aliases: &[String], faults: &mut Vec<String>) -> Vec<QuotaRule> {
    let quotas = entries::<QuotaText>(table, "quotas", "callers", faults);
    let mut rules = Vec::new();
    for (number, text) in (1..).zip(quotas) {
        let mut require = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("quotas number {number}: {what}"));
            }
        };
        let callers = &text.callers;
        require(
            !callers.is_empty() && callers.iter().all(|text| is_caller(text, aliases)),
            "callers: is empty, or has a pattern that can match nothing",
        );
        let quota = Quota {
            calls_per_second: text.calls_per_second,
            attaches_in_flight: text.attaches_in_flight,
            watch_streams: text.watch_streams,
            request_ids_per_hour: text.request_ids_per_hour,
        };
        let maxima = [
            quota.calls_per_second.map(|maximum| maximum as usize),
            quota.attaches_in_flight,
            quota.watch_streams,
            quota.request_ids_per_hour,
        ];
        require(maxima.iter().any(Option::is_some), "sets no maximum");
        require(
            maxima.iter().flatten().all(|maximum| *maximum > 0),
            "a maximum is 0; forbid the calls by a rule instead",
        );
        let callers = text.callers.into_iter().map(Pattern::new).collect();
        rules.push(QuotaRule { callers, quota });
    }
    rules
}
