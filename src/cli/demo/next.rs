//! Commands to try while the demo continues to serve, with its ids.

use super::env::{self, DemoEnv, INSTANCE, SPARE_INSTANCE};
use super::{CallerPhase, StatusTable};
use crate::cli::error::Error;
use crate::cli::style::{HEAD, paint};
use crate::model::State;

/// The commands, one a line. `program` is the binary's name; `table` shows which ENIs got a slot.
/// Commands that need an attached ENI or a full instance appear only if there is one.
pub(super) fn lines(
    program: &str,
    stage: &DemoEnv,
    table: &StatusTable,
    callers: usize,
    slots: usize,
) -> Result<Vec<String>, Error> {
    let attached: Vec<_> = table
        .callers()
        .filter(|event| event.phase == CallerPhase::State(State::Attached))
        .map(|event| event.eni.as_str())
        .collect();
    let is_full = attached.len() >= slots;
    let [free, other] = [env::eni(callers + 1)?, env::eni(callers + 2)?];
    let endpoint = stage.endpoint();
    let at = match endpoint.as_str() {
        "http://127.0.0.1:50051" => String::new(),
        other => format!(" --endpoint {other}"),
    };
    let simulator = stage.simulator();
    let grpc = endpoint.trim_start_matches("http://");
    let list = "eni.gateway.v1.AttachmentService/ListAttachments";
    let mut tries = vec![("how it stands", format!("{program} list {INSTANCE}{at}"))];
    tries.extend(attached.first().map(|taken| {
        ("one attachment with its history", format!("{program} get {INSTANCE} {taken}{at}"))
    }));
    tries.push((
        "attach another one, and watch it",
        format!("{program} attach {SPARE_INSTANCE} {free} --watch{at}"),
    ));
    if is_full {
        let refused = format!("{program} attach {INSTANCE} {other}{at}");
        tries.push(("refused: no slot is free", refused));
    }
    if let Some(taken) = attached.first() {
        tries.extend([
            (
                "follow, while one is detached in the console (seen within a minute)",
                format!("{program} watch {INSTANCE} --follow{at}"),
            ),
            ("", format!("curl {simulator}/_simulator/external -d '{{\"eni\": \"{taken}\"}}'")),
        ]);
    }
    tries.extend([
        (
            "any other client",
            format!("grpcurl -plaintext -d '{{\"instance_id\": \"{INSTANCE}\"}}' {grpc} {list}"),
        ),
        ("metrics, and ENS's own journal", format!("curl {}/metrics", stage.admin())),
        ("", format!("curl {simulator}/_simulator/journal")),
    ]);
    let mut lines = vec![String::new(), paint(HEAD, "It continues to serve. In another terminal:")];
    for (what, command) in tries {
        lines.extend((!what.is_empty()).then(|| format!("  # {what}")));
        lines.push(format!("  {command}"));
    }
    lines.push("Ctrl-C ends it.".to_owned());
    Ok(lines)
}
