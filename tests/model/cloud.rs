//! ENS: it applies late, and shows for a while what was.

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
    pub(crate) fn finding(self) -> EniObservation {
        let text = match self {
            Self::Free => "Available".to_owned(),
            _ => format!("{self:?}"),
        };
        match (self.status(), self) {
            (Some(status), _) => EniObservation::Here { status, text },
            (None, Self::Elsewhere) => EniObservation::Elsewhere {
                instance: "i-other".parse().unwrap(),
                text,
            },
            (None, _) => EniObservation::Available { text },
        }
    }

    /// The row of a describe by instance, if there is one.
    pub(crate) fn sight(self, eni: Eni) -> Option<ObservedEni> {
        self.status().map(|status| ObservedEni {
            eni: id(eni),
            status,
            text: format!("{self:?}"),
            primary: false,
        })
    }
}

/// One ENI's places, each with the time since when; the last one is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Track(pub(crate) Vec<(u64, Place)>);

impl Track {
    pub(crate) fn new(place: Place) -> Self {
        Self(vec![(0, place)])
    }

    pub(crate) fn now(&self) -> Place {
        self.0.last().unwrap().1
    }

    pub(crate) fn moves(&mut self, now: u64, place: Place) {
        self.0.push((now, place));
    }

    /// Every place that may be shown of a time from `from` on.
    pub(crate) fn shown_since(&self, from: u64) -> Vec<Place> {
        let mut shown: Vec<Place> = Vec::new();
        for (index, (_, place)) in self.0.iter().enumerate() {
            let until = self.0.get(index + 1).map_or(u64::MAX, |(next, _)| *next);
            if until >= from && !shown.contains(place) {
                shown.push(*place);
            }
        }
        shown.sort_unstable();
        shown
    }

    /// Forgets what no describe can show any more.
    pub(crate) fn forget(&mut self, before: u64) {
        while self.0.len() > 1 && self.0[1].0 < before {
            self.0.remove(0);
        }
    }
}
