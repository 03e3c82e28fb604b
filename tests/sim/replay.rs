//! The same seed gives the same history, in this process and in another one.

use std::process::Command;

use crate::{run, seeds};

/// Runs this seed and prints what its history comes to.
const CHILD: &str = "SIM_CHILD_SEED";

fn hash(seed: u64) -> String {
    let verdict = run(seed);
    format!("{} events {}", verdict.account.0.len(), verdict.account.hash())
}

#[test]
fn a_seed_repeats_itself() {
    for seed in seeds::asked_for(100) {
        let (one, other) = (run(seed), run(seed));
        let first =
            one.account.0.iter().zip(&other.account.0).position(|(one, other)| one != other);
        if let Some(at) = first {
            panic!("seed {seed}, event {at}: {:?} or {:?}", one.account.0[at], other.account.0[at]);
        }
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn a_seed_repeats_itself_in_another_process() {
    for seed in 0..4 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["replay::prints_a_history", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, seed.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(said.contains(&hash(seed)), "seed {seed}: {} here, and there:\n{said}", hash(seed));
    }
}

#[test]
#[ignore = "the other process of a_seed_repeats_itself_in_another_process"]
fn prints_a_history() {
    let seed = std::env::var(CHILD).unwrap().parse().unwrap();
    println!("{}", hash(seed));
}
