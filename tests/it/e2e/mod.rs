//! The whole gateway by its public interfaces: real processes, a real Redis, and a simulated ENS
//! whose journal judges.

mod batch;
mod budget;
mod canaries;
mod capacity;
mod chaos;
mod collector;
mod crash_points;
mod doubt;
mod errors;
mod exchange;
mod failover;
mod freeze;
mod https;
mod input;
mod limit;
mod logs;
mod lost_responses;
mod outages;
mod overload;
mod partition;
mod polling;
mod python_client;
mod quota;
mod reads;
mod reconcile;
mod reported_outcomes;
mod rollout;
mod secrets;
mod settings;
mod stopping;
mod tracing;
mod validate;
mod validity;
