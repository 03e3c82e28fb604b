//! The configuration from its sources to its report, on real files.

mod dumping;
mod layers;
mod report;

use eni_gateway::config::{Sources, load};
use std::path::PathBuf;
use tempfile::TempDir;

/// Sources with these variables, and a file of this content where there is one.
fn sources(file: Option<&str>, variables: &[(&str, &str)]) -> (Sources, TempDir) {
    let dir = TempDir::new().expect("a temporary directory");
    let path = file.map(|content| {
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, content).expect("the file can be written");
        path
    });
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    (Sources { file: path, environment, flags: Vec::new() }, dir)
}

/// The report of what is wrong, with the temporary directory taken out.
fn report(sources: Sources, dir: &TempDir) -> String {
    let faults = load(sources).expect_err("the configuration has faults");
    faults.to_string().replace(&dir.path().display().to_string(), "/etc")
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let sources =
        Sources { file: Some(PathBuf::from("/nowhere/gateway.toml")), ..Sources::default() };
    let faults = load(sources).expect_err("there is no such file").to_string();
    assert!(faults.contains("/nowhere/gateway.toml: cannot be read"), "{faults}");
}
