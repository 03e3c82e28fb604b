//! ENS: it applies late, and shows an old state for a while.

use std::collections::BTreeMap;

use eni_gateway::ledger::command::{EniObservation, ObservedEni, ObservedStatus};

use crate::plan::Eni;
use crate::task::id;

/// Where an ENI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Free,
    Attaching,
    Here,
    Detaching,
    /// On another instance.
    Elsewhere,
}

impl Place {
    pub(crate) fn occupies(self) -> bool {
        matches!(self, Self::Attaching | Self::Here | Self::Detaching)
    }

    fn status(self) -> Option<ObservedStatus> {
        match self {
            Self::Attaching => Some(ObservedStatus::Attaching),
            Self::Here => Some(ObservedStatus::InUse),
            Self::Detaching => Some(ObservedStatus::Detaching),
            Self::Free | Self::Elsewhere => None,
        }
    }

    /// What a describe by id says.
    pub(crate) fn observation(self) -> EniObservation {
        let text = match self {
            Self::Free => "Available".to_owned(),
            _ => format!("{self:?}"),
        };
        match (self.status(), self) {
            (Some(status), _) => EniObservation::Here { status, text },
            (None, Self::Elsewhere) => {
                EniObservation::Elsewhere { instance: "i-other".parse().unwrap(), text }
            }
            (None, _) => EniObservation::Available { text },
        }
    }

    /// The row of a describe by instance, if there is one.
    pub(crate) fn row(self, eni: Eni) -> Option<ObservedEni> {
        self.status().map(|status| ObservedEni {
            eni: id(eni),
            status,
            text: format!("{self:?}"),
            primary: false,
        })
    }
}

/// Where one ENI is, and where it was: of each earlier place, when it last left it. Their order
/// decides nothing, for a describe shows any of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Track {
    place: Place,
    left: BTreeMap<Place, u64>,
}

impl Track {
    pub(crate) fn new(place: Place) -> Self {
        let left = BTreeMap::new();
        Self { place, left }
    }

    pub(crate) fn now(&self) -> Place {
        self.place
    }

    pub(crate) fn moves(&mut self, now: u64, place: Place) {
        self.left.insert(self.place, now);
        self.left.remove(&place);
        self.place = place;
    }

    /// Every place that may be shown of a time from `from` on.
    pub(crate) fn shown_since(&self, from: u64) -> Vec<Place> {
        let left = self.left.iter().filter(|(_, left)| **left >= from);
        let mut shown: Vec<Place> = left.map(|(place, _)| *place).chain([self.place]).collect();
        shown.sort_unstable();
        shown
    }

    /// Forgets what no describe can show any more.
    pub(crate) fn forget(&mut self, before: u64) {
        self.left.retain(|_, left| *left >= before);
    }
}
