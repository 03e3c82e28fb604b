//! What is printed, and what `--json` keeps.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::fleet::Fleet;
use crate::format::{table, whole};
use crate::hand_off::HandOff;
use crate::memory::Memory;
use crate::peers::Peer;
use crate::rounds::{Round, Series};
use crate::watch::Watch;

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) cases: Vec<Series>,
    pub(crate) rates: Vec<Series>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) watch: Vec<Watch>,
    pub(crate) fleet: Vec<Fleet>,
    pub(crate) hand_off: Vec<HandOff>,
    pub(crate) peers: Vec<Peer>,
}

/// Where and when.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    began: String,
    cpu: String,
    cores: usize,
    kernel: String,
    /// Processes that were ready to run when the measurement began, averaged over a minute.
    load: String,
}

impl Default for Machine {
    fn default() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl Machine {
    pub(crate) fn print(&self) {
        let Self { began, cpu, cores, kernel, load } = self;
        println!("{began}, {cores} cores of {cpu}, Linux {kernel}, load {load} before the start");
    }
}

impl Report {
    /// Writes everything as JSON.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)?)?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

/// Each series that is not the floor's, beside the floor's of the same case and load.
fn beside_floor(series: &[Series]) -> impl Iterator<Item = (&Series, &Series)> {
    let floor_of = |own: &Series| {
        let same = |other: &&Series| {
            other.side == "floor" && (other.case, &other.load) == (own.case, &own.load)
        };
        series.iter().find(same)
    };
    series
        .iter()
        .filter(|own| own.side != "floor")
        .filter_map(move |own| Some((own, floor_of(own)?)))
}

/// One number of a round.
type Number = fn(&Round) -> f64;

/// Prints the cases: how many calls, how long they take, what they cost.
pub(crate) fn print_cases(series: &[Series]) {
    let compared: [Number; 3] =
        [|round| round.per_second, |round| round.p50_us, |round| round.cpu_us_a_call];
    let settled: Number = |round| round.settled_cpu_us_a_call;
    let counted: [Number; 2] = [|round| round.scripts_a_call, |round| round.ens_calls_a_call];
    let rows = beside_floor(series).map(|(own, floor)| {
        let mut row = vec![own.case.to_owned(), own.load.clone(), own.side.clone()];
        for number in compared {
            row.extend([floor, own].map(|series| whole(series.figure(number).median)));
            row.push(own.ratio(floor, number).to_string());
        }
        row.push(whole(own.figure(settled).median));
        row.push(format!("{:.2}", own.ratio(floor, settled).median));
        for number in counted {
            row.extend([floor, own].map(|series| format!("{:.1}", series.figure(number).median)));
        }
        row.push(failures(own, floor));
        row
    });
    let title = "Calls a second; p50 and CPU of the server process a call in µs; \
                 scripts and ENS calls a call";
    let head = "case|load|side|floor/s|side/s|÷ (spread)|floor p50|side p50|÷ (spread)|\
                floor CPU|side CPU|÷ (spread)|settled|÷|scripts|side|ENS|side|failed";
    table(title, head, &rows.collect::<Vec<_>>());
}

/// Prints fixed rates: what the side adds to the floor's latency.
pub(crate) fn print_rates(series: &[Series]) {
    let percentiles: [Number; 2] = [|round| round.p50_us, |round| round.p99_us];
    let rows = beside_floor(series).map(|(own, floor)| {
        let mut row = vec![own.case.to_owned(), own.load.clone(), own.side.clone()];
        for number in percentiles {
            let (floor, own) = (floor.figure(number).median, own.figure(number).median);
            row.extend([floor, own, own - floor].map(whole));
        }
        row.extend(
            [floor, own].map(|series| whole(series.figure(|round| round.per_second).median)),
        );
        row.push(failures(own, floor));
        row
    });
    let head =
        "case|rate|side|floor p50|side p50|added|floor p99|side p99|added|floor/s|side/s|failed";
    table("Latency at fixed rates in µs", head, &rows.collect::<Vec<_>>());
}

fn failures(own: &Series, floor: &Series) -> String {
    let rounds = own.rounds.iter().chain(&floor.rounds);
    rounds.map(|round| round.failures).sum::<usize>().to_string()
}
