//! What happens, told to those who measure: metrics, spans, logs.

use std::sync::Arc;

use crate::ens::report;
use crate::grpc::trace::Observers;
use crate::ledger::command::Change;
use crate::ledger::execute::{LedgerEvent, Observer};
use crate::model::{Attachment, State};
use crate::telemetry::Metrics;
use crate::telemetry::context::{adopt_parent, emit_attachment_span};
use crate::telemetry::metrics::Ended;
use crate::telemetry::names::AUDIT;

/// Committed changes of attachments.
pub(super) fn ledger(metrics: &Metrics) -> Observer {
    let metrics = metrics.clone();
    Arc::new(move |event| match event {
        LedgerEvent::Changed(change) => changed(&metrics, change),
        LedgerEvent::InvariantViolated(instance, violation) => {
            metrics.invariant_violated(violation);
            tracing::error!(%instance, invariant = violation.id(), "an invariant was broken: please report this");
        }
    })
}

fn changed(metrics: &Metrics, change: &Change) {
    let (attempt, attachment) = (&change.attempt, &change.attempt.attachment);
    if let (Some(ended), true) = (ended(change), attempt.is_from_gateway()) {
        metrics.attempt_ended(ended);
        audit(attachment);
        if let Some(trace) = &attempt.trace {
            emit_attachment_span(trace, attachment);
        }
    }
    if change.turned_stuck {
        tracing::warn!(
            instance = %attachment.instance,
            eni = %attachment.eni,
            uid = %attachment.uid,
            state = attachment.state.name(),
            ens_status = attachment.ens_status,
            ens_request_id = attachment.ens_request_id,
            since = %attachment.created_at,
            "an attempt is stuck: it is under way for longer than tracker.stuck_after"
        );
    }
    tracing::debug!(
        instance = %attachment.instance,
        eni = %attachment.eni,
        uid = %attachment.uid,
        state = attachment.state.name(),
        revision = attachment.revision.0,
        "attachment changed"
    );
}

/// How this change ended an attempt, if it did.
fn ended(Change { attempt, from, .. }: &Change) -> Option<Ended> {
    match (from, attempt.attachment.state) {
        (Some(from), to) if *from == to || !from.is_attaching() => None,
        (_, State::Attached) => Some(Ended::Attached),
        (_, State::Failed) => Some(Ended::Failed),
        _ => None,
    }
}

/// What became of an attempt, whatever its caller was told before.
fn audit(attachment: &Attachment) {
    let error = attachment.error.as_ref();
    tracing::info!(
        target: AUDIT,
        instance = %attachment.instance,
        eni = %attachment.eni,
        uid = %attachment.uid,
        outcome = error.map_or("OK", |error| error.reason.name()),
        ens_request_id = attachment.last_request_id(),
        "attach ended"
    );
}

/// Calls of ENS.
pub(super) fn ens(metrics: &Metrics) -> report::Observer {
    let metrics = metrics.clone();
    Arc::new(move |call| metrics.ens_answered(call.action.name(), call.outcome, call.duration))
}

/// RPCs.
pub(super) fn rpc(metrics: &Metrics) -> Observers {
    let metrics = metrics.clone();
    Observers {
        report: Arc::new(move |rpc| metrics.rpc_answered(rpc.method, rpc.status, rpc.reason, rpc.duration)),
        parent: Arc::new(adopt_parent),
    }
}
