//! Rules of the simulated ENS: the documented facts as defaults, and a switch for each undocumented
//! point.

use serde::{Deserialize, Serialize};

use super::duration_range::DurationRange;

/// ENS's rules. Every field has a default, so that a world file has only changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldRules {
    /// Maximum number of ENIs on an instance (10).
    pub eni_limit: usize,
    /// Whether ENS refuses an ENI above the limit (yes). Without it, the journal shows what the
    /// callers alone do.
    pub enforce_limit: bool,
    /// Whether the primary ENI counts towards the limit (no).
    pub count_primary: bool,
    /// Time from an accepted attach to `InUse` (2 s).
    pub attach_time: DurationRange,
    /// Time from an accepted detach to `Available` (2 s).
    pub detach_time: DurationRange,
    /// Time from `StopInstance` to `Stopped`, and from `StartInstance` to `Running` (1 s).
    pub power_time: DurationRange,
    /// Age of the state that a describe by ENI id, or without a filter, shows (0).
    pub lag_by_id: DurationRange,
    /// Age of the state that a describe by instance shows (0).
    pub lag_by_instance: DurationRange,
    /// The spelling of `InUse`.
    pub in_use: InUse,
    /// The `InstanceId` of an unattached ENI.
    pub unattached: Unattached,
    /// Whether an ENI that is still attaching names its instance (yes).
    pub attaching_names_instance: bool,
    /// The answer of a describe for an unknown id.
    pub unknown_eni: UnknownEni,
    /// Default number of rows on a page (10).
    pub default_page_size: usize,
    /// Maximum number of ENI rows on a page (50; the documents say 50 and 100). A larger request
    /// gets this many.
    pub max_page_size: usize,
    /// Seed of request ids and of all random values.
    pub seed: u64,
}

/// The spelling: the documents have `InUse`, an example `In_use`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum InUse {
    /// As documented.
    #[default]
    #[serde(rename = "InUse")]
    Documented,
    /// As in the example.
    #[serde(rename = "In_use")]
    Example,
}

/// An unattached ENI's `InstanceId`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unattached {
    /// It is absent.
    #[default]
    Absent,
    /// It is `""`.
    Empty,
}

/// A describe of an id that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEni {
    /// It has no row.
    #[default]
    Omitted,
    /// It fails with `InvalidEniId.NotFound`.
    Error,
}

impl WorldRules {
    /// The contradiction in these rules.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let has_no_rows = self.default_page_size == 0 || self.max_page_size == 0;
        has_no_rows.then_some("rules: a page needs at least one row")
    }
}

impl Default for WorldRules {
    fn default() -> Self {
        let two_seconds = DurationRange::fixed(std::time::Duration::from_secs(2));
        Self {
            eni_limit: 10,
            enforce_limit: true,
            count_primary: false,
            attach_time: two_seconds,
            detach_time: two_seconds,
            power_time: DurationRange::fixed(std::time::Duration::from_secs(1)),
            lag_by_id: DurationRange::ZERO,
            lag_by_instance: DurationRange::ZERO,
            in_use: InUse::default(),
            unattached: Unattached::default(),
            attaching_names_instance: true,
            unknown_eni: UnknownEni::default(),
            default_page_size: 10,
            max_page_size: 50,
            seed: 1,
        }
    }
}
