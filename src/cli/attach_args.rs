//! The arguments of `attach`.

use uuid::Uuid;

use super::client;
use crate::grpc::parse::MAX_BATCH;
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
Examples:
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1 --watch --timeout 5m
  eni-gateway attach i-5p67acfmxazb4p eni-58z57orgmt6d1 --validate-only -o json
  eni-gateway attach i-5p67acfmxazb4p eni-1 eni-2 eni-3 --require-all --watch

Without --watch it returns when ENS has accepted or refused. A repeat is safe at any time: it \
joins the attach in flight, and an ENI that is attached already is a success. The instance must \
be stopped. Several ENIs are attached in their order, and each has its own result: the command \
fails if one of them fails. With --watch, the end of the command means that nothing is in flight \
on the instance any more, so it may be started.";

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance, which comes first
    pub(super) instance: InstanceId,
    /// The elastic network interfaces, 20 at most
    #[arg(required = true, value_name = "ENI", num_args = 1..=MAX_BATCH)]
    pub(super) enis: Vec<InterfaceId>,
    /// Id of the intent, a UUID: a repeat within 24 hours gets the same outcome
    #[arg(long, value_name = "UUID")]
    pub(super) request_id: Option<Uuid>,
    /// Only check the request, and print the checks
    #[arg(long, conflicts_with = "watch")]
    pub(super) validate_only: bool,
    /// Send nothing if the known free slots do not hold all of the ENIs
    #[arg(long)]
    pub(super) require_all: bool,
    /// Then watch until each is attached or failed
    #[arg(long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) client: client::Options,
}
