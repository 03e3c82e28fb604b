//! A world as a file: TOML, or JSON by its extension. Everything has a default but the ids.
//!
//! ```toml
//! [rules]
//! attach_time = "1s..3s"
//! lag_by_instance = "2s"
//!
//! [[instances]]
//! id = "i-one"
//!
//! [[enis]]
//! id = "eni-one"
//!
//! [[enis]]
//! id = "eni-two"
//! status = "InUse"
//! instance = "i-one"
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::eni::{EniSpec, EniStatus};
use super::instance::{Instance, status_fault};
use crate::simulator::rules::WorldRules;

/// The initial state of a world, and its snapshot.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldFile {
    /// ENS's rules.
    pub rules: WorldRules,
    /// The instances. One without a primary ENI among `enis` gets `eni-primary-<id>`.
    pub instances: Vec<Instance>,
    /// The ENIs.
    pub enis: Vec<EniSpec>,
}

/// A reason why a world file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the world file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is not valid TOML, or not a world.
    #[error("the world file is not valid: {0}")]
    Toml(#[from] toml::de::Error),
    /// It is not valid JSON, or not a world.
    #[error("the world file is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// It is contradictory; every fault, one a line.
    #[error("the world file contradicts itself:{}", lines(.0))]
    Contradictory(Vec<String>),
}

fn lines(faults: &[String]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        let _ = write!(text, "\n  - {fault}");
        text
    })
}

impl WorldFile {
    /// Reads a file: JSON if its name ends in `.json`, else TOML.
    ///
    /// # Errors
    /// It cannot be read, or is invalid.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str::<Self>(&text)?.checked()
        } else {
            toml::from_str::<Self>(&text)?.checked()
        }
    }

    /// Returns the file if it is not contradictory.
    ///
    /// # Errors
    /// [`Error::Contradictory`] with every fault.
    pub fn checked(self) -> Result<Self, Error> {
        let faults = self.faults();
        if faults.is_empty() { Ok(self) } else { Err(Error::Contradictory(faults)) }
    }

    /// The file as TOML.
    ///
    /// # Errors
    /// Never for a world that was read.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut instances = BTreeMap::new();
        for instance in &self.instances {
            if instances.insert(instance.id.as_str(), instance).is_some() {
                faults.push(format!("instance {} is defined twice", instance.id));
            }
            let status = status_fault(&instance.status);
            faults.extend(status.map(|fault| format!("instance {}: {fault}", instance.id)));
        }
        let mut seen = std::collections::BTreeSet::new();
        for eni in &self.enis {
            if !seen.insert(eni.id.as_str()) {
                faults.push(format!("eni {} is defined twice", eni.id));
            }
            faults.extend(Self::placement_fault(eni, &instances));
        }
        if self.instances.iter().any(|instance| instance.id.is_empty()) || seen.contains("") {
            faults.push("an id must not be empty".to_owned());
        }
        faults.extend(self.rules.fault().map(str::to_owned));
        faults
    }

    fn placement_fault(eni: &EniSpec, instances: &BTreeMap<&str, &Instance>) -> Option<String> {
        let (id, status) = (&eni.id, &eni.placement.status);
        match (&eni.placement.instance, status) {
            (Some(on), EniStatus::Available) => {
                Some(format!("eni {id} is Available, but names instance {on}"))
            }
            (None, EniStatus::Attaching | EniStatus::InUse | EniStatus::Detaching) => {
                Some(format!("eni {id} is {status}, but names no instance"))
            }
            (None, _) => None,
            (Some(on), _) => match instances.get(on.as_str()) {
                None => Some(format!("eni {id} is on instance {on}, which does not exist")),
                Some(instance)
                    if instance.network != eni.network || instance.region != eni.region =>
                {
                    Some(format!("eni {id} is on instance {on}, but in another network or region"))
                }
                Some(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_world_survives_a_round_trip_through_toml_and_json() {
        let world = WorldFile::default_world();
        assert_eq!(toml::from_str::<WorldFile>(&world.to_toml().unwrap()).unwrap(), world);
        let json = serde_json::to_string(&world).unwrap();
        assert_eq!(serde_json::from_str::<WorldFile>(&json).unwrap(), world);
        world.checked().unwrap();
    }

    #[test]
    fn every_contradiction_is_named_at_once() {
        let text = r#"
            [[instances]]
            id = "i-1"
            [[instances]]
            id = "i-1"
            [[enis]]
            id = "eni-1"
            instance = "i-1"
            [[enis]]
            id = "eni-2"
            status = "InUse"
            [[enis]]
            id = "eni-3"
            status = "InUse"
            instance = "i-9"
            [[enis]]
            id = "eni-4"
            status = "InUse"
            instance = "i-1"
            network = "n-other"
            [[instances]]
            id = "i-2"
            status = "Stoped"
        "#;
        let error = toml::from_str::<WorldFile>(text).unwrap().checked().unwrap_err().to_string();
        for part in [
            "instance i-1 is defined twice",
            "eni-1 is Available",
            "eni-2 is InUse",
            "i-9, which",
            "eni-4 is on",
            "instance i-2: unknown status \"Stoped\"",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        for text in [
            "[rules]\nlimit = 3",
            "[[enis]]\nid='e'\nstatu='InUse'",
            "[[enis]]\nid='e'\nstatus='Inuse'",
            "[[enis]]\nid='e'\ntype='secondary'",
            "[[instances]]\nid='i'\nstate='x'",
            "colour = 1",
        ] {
            assert!(toml::from_str::<WorldFile>(text).is_err(), "{text}");
        }
    }
}
