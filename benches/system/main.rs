//! Measures the gateway beside floors, in rounds, on this machine alone. `benches/README.md` says
//! what and how.

mod args;
mod cases;
mod ens;
mod fleet;
mod floor;
mod format;
mod hand_off;
mod load;
mod memory;
mod peers;
mod process;
mod redis;
mod report;
mod rounds;
mod side;
mod stats;
mod watch;

use clap::Parser as _;

use args::{Args, Part, Role};
use report::Report;

/// What anything here returns: no error is handled other than by telling it.
type Result<T> = std::result::Result<T, Error>;
type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<()> {
    // Installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    match &args.role {
        Some(Role::Floor { listen, redis, ens }) => floor::serve(*listen, redis, ens).await,
        None => measure(&args).await,
    }
}

async fn measure(args: &Args) -> Result<()> {
    let (programs, mut report) = (args.programs(), Report::default());
    report.machine.print();
    if args.runs(Part::Cases) {
        for case in args.cases() {
            let (loads, rounds) = args.loads(case);
            report.cases.extend(rounds::run(&programs, case, &loads, rounds).await?);
        }
        report::print_cases(&report.cases);
    }
    if args.runs(Part::Rates) {
        let (cases, loads, rounds) = args.rates();
        for case in cases {
            report.rates.extend(rounds::run(&programs, case, &loads, rounds).await?);
        }
        report::print_rates(&report.rates);
    }
    if args.runs(Part::Memory) {
        report.memory = memory::run(&programs, args.instances()).await?;
        memory::print(&report.memory);
    }
    if args.runs(Part::Watch) {
        report.watch = watch::run(&programs, args.streams(), args.changes(), args.idle()).await?;
        watch::print(&report.watch);
    }
    if args.runs(Part::Fleet) {
        report.fleet = fleet::run(&programs, args.fleet(), args.idle()).await?;
        fleet::print(&report.fleet);
    }
    if args.runs(Part::HandOff) {
        report.hand_off = hand_off::run(&programs, args.hand_offs()).await?;
        hand_off::print(&report.hand_off);
    }
    if args.runs(Part::Peers) {
        report.peers = peers::run(args).await;
        peers::print(&report.peers);
    }
    match &args.json {
        Some(file) => report.save(file),
        None => Ok(()),
    }
}

/// Says on stderr what is measured now.
fn progress(what: &str) {
    eprintln!("{what}");
}
