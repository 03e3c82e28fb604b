//! Peers, where they can be had: the price of a hop, another watch, and the loop that callers write
//! without a gateway.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::args::Args;
use crate::format::table;
use crate::{Result, progress};

mod envoy;
mod etcd;
mod sdk;

/// What a peer showed, or why it was left out.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    name: &'static str,
    figures: BTreeMap<String, f64>,
    left_out: Option<String>,
}

/// Runs all peers that this machine has. What fails is left out: no peer is needed for the rest.
pub(crate) async fn run(args: &Args) -> Vec<Peer> {
    progress("peers: envoy");
    let envoy = envoy::run(args).await;
    progress("peers: etcd");
    let etcd = etcd::run(args).await;
    progress("peers: the official SDK's loop");
    let sdk = sdk::run(args).await;
    vec![
        peer("Envoy in front of a bare tonic", envoy),
        peer("etcd, watch streams of one key", etcd),
        peer("the official SDK's attach-and-poll loop", sdk),
    ]
}

fn peer(name: &'static str, showed: Result<BTreeMap<String, f64>>) -> Peer {
    let (figures, left_out) = match showed {
        Ok(figures) => (figures, None),
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    Peer { name, figures, left_out }
}

/// The program that a variable names, or else that the search path has.
fn find(variable: &str, program: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        format!("there is no {program} on the search path, and {variable} names none").into()
    })
}

/// Prints it.
pub(crate) fn print(all: &[Peer]) {
    let mut rows = Vec::new();
    for peer in all {
        rows.extend(
            peer.left_out.iter().map(|why| vec![peer.name.to_owned(), format!("left out: {why}")]),
        );
        let figures = peer.figures.iter();
        rows.extend(figures.map(|(what, number)| {
            vec![peer.name.to_owned(), what.clone(), format!("{number:.1}")]
        }));
    }
    table("Peers", "peer|what|measured", &rows);
}
