//! Observers that turn reports into metrics, spans and log lines.

use std::sync::Arc;

use crate::ens::report;
use crate::grpc::handshake::HandshakeFault;
use crate::grpc::trace::Observers;
use crate::ledger::command::Change;
use crate::ledger::execute::{CommitObserver, LedgerEvent};
use crate::ledger::invariants::Violation;
use crate::ledger::record::Attempt;
use crate::model::{Attachment, State};
use crate::names::INVARIANT_VIOLATED;
use crate::telemetry::context::{adopt_parent, emit_attachment_span};
use crate::telemetry::metrics::Ended;
use crate::telemetry::{AuditEvent, AuditLine, Metrics};

/// The observer of committed changes.
pub(super) fn ledger(metrics: &Metrics) -> CommitObserver {
    let metrics = metrics.clone();
    for violation in Violation::ALL {
        metrics.invariant_violated(violation.id(), 0);
    }
    Arc::new(move |event| match event {
        LedgerEvent::Changed(change) => changed(&metrics, change),
        LedgerEvent::InvariantViolated(instance, violation) => {
            metrics.invariant_violated(violation.id(), 1);
            tracing::error!(%instance, invariant = violation.id(), "{INVARIANT_VIOLATED}");
        }
    })
}

fn changed(metrics: &Metrics, change: &Change) {
    let attempt = &change.attempt;
    if let (Some(ended), true) = (ended(change), attempt.is_from_gateway()) {
        let attachment = attempt.attachment();
        metrics.attempt_ended(ended);
        audit(attempt, &attachment);
        if let Some(trace) = &attempt.trace {
            emit_attachment_span(trace, &attachment);
        }
    }
    if change.turned_stuck {
        tracing::warn!(
            instance = %attempt.instance,
            eni = %attempt.eni,
            uid = %attempt.uid,
            state = attempt.state.kind().name(),
            ens_status = attempt.ens_status,
            ens_request_id = attempt.ens_request_id,
            since = %attempt.created_at,
            "an attempt is stuck: it is in flight for longer than tracker.stuck_after"
        );
    }
    tracing::debug!(
        instance = %attempt.instance,
        eni = %attempt.eni,
        uid = %attempt.uid,
        state = attempt.state.kind().name(),
        revision = attempt.revision.0,
        "attachment changed"
    );
}

/// The end of an attempt in this change, if any.
fn ended(Change { attempt, from, .. }: &Change) -> Option<Ended> {
    match (from, attempt.state.kind()) {
        (Some(from), to) if *from == to || !from.is_attaching() => None,
        (_, State::Attached) => Some(Ended::Attached),
        (_, State::Failed) => Some(Ended::Failed),
        _ => None,
    }
}

/// Writes the audit line of an attempt's end, which may differ from its caller's answer. A poll may
/// have found the end, so the line has the trace of the attach.
fn audit(attempt: &Attempt, attachment: &Attachment) {
    let error = attachment.error.as_ref();
    AuditLine {
        caller: attempt.begun_by(),
        action: Some("attach"),
        instance: Some(&attachment.instance),
        eni: Some(&attachment.eni),
        request_id: attempt.request.as_ref().map(|request| request.id),
        uid: Some(attachment.uid),
        outcome: Some(error.map_or("OK", |error| error.reason.name())),
        ens_request_id: Some(attachment.last_request_id()),
        ..AuditLine::default()
    }
    .write_in(AuditEvent::AttachEnded, attempt.trace.as_ref());
}

/// The observer of ENS calls.
pub(super) fn ens(metrics: &Metrics) -> report::CallObserver {
    let metrics = metrics.clone();
    Arc::new(move |call| metrics.ens_answered(call.action.name(), call.outcome, call.duration))
}

/// The observers of RPCs and handshakes.
pub(super) fn rpc(metrics: &Metrics) -> Observers {
    for fault in HandshakeFault::ALL {
        metrics.handshakes_failed(fault.name(), 0);
    }
    let (rpcs, handshakes) = (metrics.clone(), metrics.clone());
    Observers {
        report: Arc::new(move |rpc| {
            rpcs.rpc_answered(rpc.method, rpc.status, rpc.reason, rpc.duration)
        }),
        parent: Arc::new(adopt_parent),
        handshake: Arc::new(move |fault| handshakes.handshakes_failed(fault.name(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_has_a_series_from_the_start() {
        let metrics = Metrics::new("1.2.3", "abc").expect("metrics can be set up");
        drop(ledger(&metrics));
        let text = metrics.exposition().expect("it can be written");
        for id in Violation::ALL.map(Violation::id) {
            let line = format!("eni_gateway_invariant_violations_total{{invariant=\"{id}\"}} 0");
            assert!(text.lines().any(|other| other == line), "{line} is missing from:\n{text}");
        }
    }
}
