//! Resident memory, idle and after many instances.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::cases::attach;
use crate::format::{table, whole};
use crate::load::{self, Target};
use crate::side::{Program, Side};
use crate::{Result, progress};

/// What one side needs.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) side: String,
    pub(crate) idle_bytes: u64,
    pub(crate) instances: usize,
    pub(crate) after_bytes: u64,
    pub(crate) redis_bytes_an_instance: f64,
}

/// Attaches one ENI to each of so many instances.
pub(crate) async fn run(programs: &[Program], instances: usize) -> Result<Vec<Memory>> {
    let mut all = Vec::new();
    for program in programs {
        progress(&format!("memory, {}", program.name()));
        let side = Side::start(program, 1, Duration::ZERO).await?;
        sleep(Duration::from_secs(2)).await;
        let (idle_bytes, before) =
            (side.replicas[0].process.resident()?, side.redis.data_size().await?);
        let target = |number| Target::new(format!("eni-{number}"), format!("fresh-{number}"));
        let clients = side.connect(4).await?;
        load::each(&clients, 32, (0..instances).map(target).collect(), attach).await?;
        side.settled(instances).await?;
        all.push(Memory {
            side: program.name().to_owned(),
            idle_bytes,
            instances,
            after_bytes: side.replicas[0].process.resident()?,
            redis_bytes_an_instance: side.redis.data_size().await?.saturating_sub(before) as f64
                / instances as f64,
        });
    }
    Ok(all)
}

/// Prints it.
pub(crate) fn print(all: &[Memory]) {
    let rows = all.iter().map(|memory| {
        vec![
            memory.side.clone(),
            whole(memory.instances as f64),
            format!("{:.1}", memory.idle_bytes as f64 / 1e6),
            format!("{:.1}", memory.after_bytes as f64 / 1e6),
            whole(memory.redis_bytes_an_instance),
        ]
    });
    let head = "side|instances|idle, MB|after them, MB|Redis, bytes an instance";
    table("Resident memory of the server process", head, &rows.collect::<Vec<_>>());
}
