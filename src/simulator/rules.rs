//! How the simulated ENS behaves: the documented facts as defaults, and a switch for each point that the documents leave open.

use serde::{Deserialize, Serialize};

use super::duration_range::DurationRange;

/// ENS's behaviour. Every field has a default, so that a world file names only what it changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldRules {
    /// Most ENIs that an instance may hold (10).
    pub eni_limit: usize,
    /// Whether ENS itself refuses an ENI above the limit (yes). Off, the books show what the callers alone would have done.
    pub enforce_limit: bool,
    /// Whether the primary ENI counts towards the limit (no).
    pub count_primary: bool,
    /// From an accepted attach to `InUse` (2 s).
    pub attach_time: DurationRange,
    /// From an accepted detach to `Available` (2 s).
    pub detach_time: DurationRange,
    /// From `StopInstance` to `Stopped`, and from `StartInstance` to `Running` (1 s).
    pub power_time: DurationRange,
    /// How old the state is that a describe by ENI id (or by nothing) shows (0).
    pub lag_by_id: DurationRange,
    /// How old the state is that a describe by instance shows (0).
    pub lag_by_instance: DurationRange,
    /// How `InUse` is spelt.
    pub in_use: InUse,
    /// What an unattached ENI has for `InstanceId`.
    pub unattached: Unattached,
    /// Whether an ENI that is still attaching names its instance (yes).
    pub attaching_names_instance: bool,
    /// What a describe says about an id that is not there.
    pub unknown_eni: UnknownEni,
    /// Rows on a page unless the caller asks for another number (10).
    pub default_page_size: usize,
    /// Most rows on a page of ENIs (50; the documents say 50 and 100). A caller who asks for more gets this many.
    pub max_page_size: usize,
    /// Seed of request ids and of everything drawn.
    pub seed: u64,
}

/// The documents say `InUse`; an example in them says `In_use`.
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
    /// There is none.
    #[default]
    Absent,
    /// It is `""`.
    Empty,
}

/// A describe of an id that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEni {
    /// Has no row for it.
    #[default]
    Omitted,
    /// Fails as a whole, with `InvalidEniId.NotFound`.
    Error,
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
