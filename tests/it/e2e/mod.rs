//! The whole gateway by its public faces: real processes, a real Redis, a simulated ENS whose books are the judge.

mod budget;
mod chaos;
mod compared;
mod doubt;
mod errors;
mod failover;
mod foreign;
mod https;
mod input;
mod limit;
mod lost;
mod moments;
mod outages;
mod overload;
mod partition;
mod polling;
mod reads;
mod rollout;
mod settings;
mod stopping;
mod told;
mod tracing;
mod validate;
mod validity;
