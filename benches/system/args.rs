//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cases::Case;
use crate::rounds::{Load, Rounds};
use crate::side::Program;

/// Streams of one connection: below the limit of 1024.
pub(crate) const STREAMS_A_CONNECTION: usize = 625;

/// Measures the gateway beside floors: the least programs that do the same network work with the
/// same libraries.
#[derive(Debug, clap::Parser)]
#[command(name = "system")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Measure less, in under two minutes
    #[arg(long)]
    quick: bool,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Parts to run; all unless given
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Cases to run; all unless given
    #[arg(long = "case", value_enum, value_delimiter = ',', value_name = "CASE")]
    cases: Vec<Case>,
    /// Gateways to measure in rounds; the one that was built for this bench unless given
    #[arg(long = "gateway", value_name = "NAME=PATH", value_parser = gateway)]
    gateways: Vec<(String, PathBuf)>,
    /// Watch streams
    #[arg(long, value_name = "N")]
    streams: Option<usize>,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a child process of the bench is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Serves the floor
    #[command(hide = true)]
    Floor { listen: SocketAddr, redis: String, ens: String },
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Cases,
    Rates,
    Memory,
    Watch,
    Fleet,
    HandOff,
    Peers,
}

fn gateway(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("must read NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

impl Args {
    pub(crate) fn runs(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The floor, then the gateways.
    pub(crate) fn programs(&self) -> Vec<Program> {
        let mut programs = vec![Program::Floor];
        let given = self.gateways.iter().cloned();
        programs.extend(given.map(|(name, path)| Program::Gateway(name, path)));
        if programs.len() == 1 {
            let built = env!("CARGO_BIN_EXE_eni-gateway").into();
            programs.push(Program::Gateway("gateway".to_owned(), built));
        }
        programs
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        if self.cases.is_empty() { Case::ALL.to_vec() } else { self.cases.clone() }
    }

    /// The loads under which a case runs, and for how long.
    pub(crate) fn loads(&self, case: Case) -> (Vec<Load>, Rounds) {
        let load = |(connections, calls)| Load::InFlight { connections, calls };
        let all = [(1, 1), (1, 8), (4, 32), (16, 16)].map(load);
        match (self.quick, case) {
            (false, _) => (all.to_vec(), Rounds { count: 5, seconds: 1.0 }),
            (true, Case::AttachFresh) => (vec![all[0], all[2]], Rounds { count: 3, seconds: 0.5 }),
            (true, _) => (vec![all[2]], Rounds { count: 3, seconds: 0.5 }),
        }
    }

    /// The cases and the rates at which latency is measured, and for how long.
    pub(crate) fn rates(&self) -> (Vec<Case>, Vec<Load>, Rounds) {
        let rates = [20, 200, 2000].map(Load::PerSecond);
        if self.quick {
            (vec![Case::AttachFresh], rates[1..].to_vec(), Rounds { count: 1, seconds: 2.0 })
        } else {
            (vec![Case::AttachFresh, Case::Get], rates.to_vec(), Rounds { count: 3, seconds: 4.0 })
        }
    }

    pub(crate) fn instances(&self) -> usize {
        if self.quick { 2_000 } else { 17_000 }
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.unwrap_or(if self.quick { 1_000 } else { 10_000 })
    }

    /// Instances, and streams of all of them.
    pub(crate) fn fleet(&self) -> (usize, usize) {
        if self.quick { (1_000, 20) } else { (10_000, 100) }
    }

    /// Changes that go to all streams: as many as an instance takes ENIs beside the first one.
    pub(crate) fn changes(&self) -> usize {
        if self.quick { 3 } else { 9 }
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 15 })
    }

    pub(crate) fn hand_offs(&self) -> usize {
        if self.quick { 3 } else { 10 }
    }

    /// ENIs that the SDK's loop attaches.
    pub(crate) fn loop_enis(&self) -> usize {
        if self.quick { 20 } else { 200 }
    }
}
