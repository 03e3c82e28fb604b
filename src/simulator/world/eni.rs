//! An ENI with the history that a describe may still show.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// An ENI's properties and placement, also in a world file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EniSpec {
    /// Its id.
    pub id: String,
    /// `Primary` or `Secondary` (default).
    #[serde(default, rename = "type")]
    pub kind: EniKind,
    /// Its network. It attaches only to instances of the same one.
    #[serde(default = "super::defaults::network")]
    pub network: String,
    /// Its node. It attaches only to instances of the same one.
    #[serde(default = "super::defaults::region")]
    pub region: String,
    /// Whether a service owns it, so that callers cannot attach it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service_managed: bool,
    /// Status and instance.
    #[serde(flatten)]
    pub placement: Placement,
}

impl EniSpec {
    /// An available secondary ENI in the default network.
    pub fn available(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind: EniKind::Secondary,
            network: super::defaults::network(),
            region: super::defaults::region(),
            service_managed: false,
            placement: Placement::default(),
        }
    }

    /// Sets it in use on this instance.
    #[must_use]
    pub fn on(mut self, instance: impl Into<String>) -> Self {
        self.placement = Placement::on(EniStatus::InUse, instance);
        self
    }
}

/// The kind: `Primary` belongs to its instance; `Secondary` is attached by calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "ENS's own words")]
pub enum EniKind {
    Primary,
    #[default]
    Secondary,
}

impl EniKind {
    /// ENS's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "Primary",
            Self::Secondary => "Secondary",
        }
    }
}

/// An ENI's status. In files, an undocumented one is `other:Word`, so that a typing error is none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[expect(missing_docs, reason = "ENS's own words")]
pub enum EniStatus {
    #[default]
    Available,
    Attaching,
    InUse,
    Detaching,
    Deleting,
    /// An undocumented status.
    Other(String),
}

impl EniStatus {
    /// The status of ENS's word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "Available" => Self::Available,
            "Attaching" => Self::Attaching,
            "InUse" | "In_use" => Self::InUse,
            "Detaching" => Self::Detaching,
            "Deleting" => Self::Deleting,
            _ => Self::Other(word.to_owned()),
        }
    }

    /// Whether an ENI with this status uses a slot of its instance.
    #[must_use]
    pub const fn occupies(&self) -> bool {
        !matches!(self, Self::Available)
    }
}

/// Marks an undocumented status in files.
const OTHER: &str = "other:";

impl TryFrom<String> for EniStatus {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match (Self::of(&word), word.strip_prefix(OTHER)) {
            (Self::Other(_), Some(other)) if !other.is_empty() => Ok(Self::Other(other.to_owned())),
            (Self::Other(_), _) => Err(format!(
                "unknown status {word:?}: use Available, Attaching, InUse, Detaching, Deleting, \
                 or {OTHER}Word for an undocumented one"
            )),
            (known, _) => Ok(known),
        }
    }
}

impl From<EniStatus> for String {
    fn from(status: EniStatus) -> Self {
        match status {
            EniStatus::Other(word) => format!("{OTHER}{word}"),
            known => known.to_string(),
        }
    }
}

impl fmt::Display for EniStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "Available",
            Self::Attaching => "Attaching",
            Self::InUse => "InUse",
            Self::Detaching => "Detaching",
            Self::Deleting => "Deleting",
            Self::Other(word) => word,
        })
    }
}

/// An ENI's status and instance.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Its status (`Available`).
    #[serde(default)]
    pub status: EniStatus,
    /// The instance; none while `Available`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Placement {
    /// A placement on an instance.
    pub fn on(status: EniStatus, instance: impl Into<String>) -> Self {
        Self { status, instance: Some(instance.into()) }
    }

    /// Whether it uses a slot of `instance`.
    #[must_use]
    pub fn occupies(&self, instance: &str) -> bool {
        self.status.occupies() && self.instance.as_deref() == Some(instance)
    }
}

/// An ENI and its history.
#[derive(Debug)]
pub(super) struct Eni {
    /// The fixed properties. Its `placement` is the first one.
    pub(super) spec: EniSpec,
    /// Later placements with their beginnings, oldest first.
    changes: Vec<(Instant, Placement)>,
    /// The number of placements. Due changes of an older one are ignored.
    pub(super) generation: u64,
}

impl Eni {
    pub(super) fn new(spec: EniSpec) -> Self {
        Self { spec, changes: Vec::new(), generation: 0 }
    }

    /// Its current placement.
    pub(super) fn placement(&self) -> &Placement {
        self.changes.last().map_or(&self.spec.placement, |(_, placement)| placement)
    }

    /// Its placement `lag` before `now`.
    pub(super) fn seen(&self, now: Instant, lag: Duration) -> &Placement {
        let visible = self.changes.iter().rev().find(|(since, _)| *since + lag <= now);
        visible.map_or(&self.spec.placement, |(_, placement)| placement)
    }

    /// Sets its placement, and removes history older than `memory`.
    pub(super) fn enter(&mut self, placement: Placement, now: Instant, memory: Duration) {
        self.generation += 1;
        self.changes.push((now, placement));
        let old = self.changes.iter().filter(|(since, _)| *since + memory <= now).count();
        if let Some((_, newest_of_old)) = self.changes.drain(..old).next_back() {
            self.spec.placement = newest_of_old;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_no_status() {
        let read = |word: &str| EniStatus::try_from(word.to_owned());
        assert_eq!(read("In_use"), Ok(EniStatus::InUse));
        assert_eq!(read("other:Frozen"), Ok(EniStatus::Other("Frozen".to_owned())));
        assert_eq!(String::from(EniStatus::Other("Frozen".to_owned())), "other:Frozen");
        assert!(read("Inuse").is_err() && read("other:").is_err());
    }

    #[test]
    fn shows_the_past_within_the_lag_and_forgets_the_rest() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut eni = Eni::new(EniSpec::available("eni-1"));
        eni.enter(Placement::on(EniStatus::Attaching, "i-1"), start, 5 * second);
        eni.enter(Placement::on(EniStatus::InUse, "i-1"), start + 2 * second, 5 * second);

        let status = |at: u32, lag: u32| eni.seen(start + at * second, lag * second).status.clone();
        assert_eq!(status(2, 0), EniStatus::InUse);
        assert_eq!(status(2, 1), EniStatus::Attaching);
        assert_eq!(status(2, 3), EniStatus::Available);

        eni.enter(Placement::default(), start + 20 * second, 5 * second);
        assert_eq!(eni.changes.len(), 1);
        assert_eq!(eni.seen(start + 20 * second, 5 * second).status, EniStatus::InUse);
    }
}
