//! What to try once the demo is over and goes on serving: commands that work as they stand, on the ids of this world.

use super::stage::{self, INSTANCE, SPARE_INSTANCE, Stage};
use crate::cli::error::Error;
use crate::cli::output::{HEAD, paint};

/// The commands, one a line. `program` is how this one was called.
pub(super) fn lines(program: &str, stage: &Stage, callers: usize) -> Result<Vec<String>, Error> {
    let [taken, free, other] = [stage::eni(1)?, stage::eni(callers + 1)?, stage::eni(callers + 2)?];
    let endpoint = stage.endpoint();
    let at = match endpoint.as_str() {
        "http://127.0.0.1:50051" => String::new(),
        other => format!(" --endpoint {other}"),
    };
    let simulator = stage.simulator();
    let grpc = endpoint.trim_start_matches("http://");
    let list = "eni.gateway.v1.AttachmentService/ListAttachments";
    Ok(vec![
        String::new(),
        paint(HEAD, "It goes on serving. In another terminal"),
        format!("  {program} list {INSTANCE}{at}"),
        format!("  {program} get {INSTANCE} {taken}{at}"),
        format!("  {program} attach {SPARE_INSTANCE} {free} --watch{at}"),
        format!("  {program} attach {INSTANCE} {other}{at}                # refused while it is full"),
        format!(
            "  {program} watch {INSTANCE} --follow{at}                # and meanwhile, as if detached in the console:"
        ),
        format!("  curl {simulator}/_simulator/foreign --json '{{\"eni\": \"{taken}\"}}'"),
        format!("  grpcurl -plaintext -d '{{\"instance_id\": \"{INSTANCE}\"}}' {grpc} {list}"),
        format!("  curl {}/metrics", stage.admin()),
        format!("  curl {simulator}/_simulator/books"),
        "Ctrl-C ends it.".to_owned(),
    ])
}
