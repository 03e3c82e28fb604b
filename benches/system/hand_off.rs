//! The hand-off of one instance between callers on two replicas, where ENS takes its time.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::cases::{attach, describe};
use crate::format::table;
use crate::load::{self, Target};
use crate::side::{Program, Side};
use crate::stats::figure;
use crate::{Result, progress};

const CALLERS: usize = 10;
const ENS_LATENCY: Duration = Duration::from_millis(50);

/// How long all callers took together.
#[derive(Debug, Serialize)]
pub(crate) struct HandOff {
    pub(crate) side: String,
    /// What ENS alone takes: one call after the other.
    pub(crate) least_ms: f64,
    pub(crate) total_ms: Vec<f64>,
}

/// Ten callers at once, over two replicas, on one instance that was just described.
pub(crate) async fn run(programs: &[Program], rounds: usize) -> Result<Vec<HandOff>> {
    let mut all = Vec::new();
    for program in programs.iter().filter(|program| !matches!(program, Program::Floor)) {
        progress(&format!("hand-off, {}", program.name()));
        let side = Side::start(program, 2, ENS_LATENCY).await?;
        let clients = side.connect(CALLERS).await?;
        let mut total_ms = Vec::new();
        for round in 0..rounds {
            let instance = format!("i-{round}");
            describe(clients[0].clone(), Target::new(String::new(), instance.clone())).await?;
            let target = |number| Target::new(format!("eni-{round}-{number}"), instance.clone());
            let began = Instant::now();
            load::each(&clients, CALLERS, (0..CALLERS).map(target).collect(), attach).await?;
            total_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        all.push(HandOff {
            side: program.name().to_owned(),
            least_ms: (ENS_LATENCY * CALLERS as u32).as_secs_f64() * 1e3,
            total_ms,
        });
    }
    Ok(all)
}

/// Prints it.
pub(crate) fn print(all: &[HandOff]) {
    let rows = all.iter().map(|hand_off| {
        let total = figure(hand_off.total_ms.iter().copied());
        vec![
            hand_off.side.clone(),
            format!("{CALLERS} over 2 replicas"),
            format!("{:.0}", hand_off.least_ms),
            format!("{:.0} ({:.0}–{:.0})", total.median, total.least, total.most),
            format!("{:.2}", total.median / hand_off.least_ms),
        ]
    });
    let head = "side|callers|ENS alone, ms|total, ms|÷";
    table("Hand-off on one instance, ENS answers in 50 ms", head, &rows.collect::<Vec<_>>());
}
