//! What happens, told to those who measure: metrics, spans, logs.

use std::sync::Arc;

use crate::ens::report;
use crate::grpc::trace::Observers;
use crate::ledger::book::{Event, Observer};
use crate::ledger::command::Change;
use crate::model::State;
use crate::telemetry::Metrics;
use crate::telemetry::context::{adopt_parent, emit_attachment_span};
use crate::telemetry::metrics::Ended;

/// Committed changes of attachments.
pub(super) fn book(metrics: &Metrics) -> Observer {
    let metrics = metrics.clone();
    Arc::new(move |event| match event {
        Event::Changed(change) => changed(&metrics, change),
        Event::Broken(instance, breach) => {
            metrics.invariant_breached(breach);
            tracing::error!(%instance, invariant = breach.id(), "an invariant was broken: please report this");
        }
    })
}

fn changed(metrics: &Metrics, Change { attempt, from }: &Change) {
    let attachment = &attempt.attachment;
    let ended = match (from, attachment.state) {
        (Some(from), to) if *from == to || !from.is_attaching() => None,
        (_, State::Attached) => Some(Ended::Attached),
        (_, State::Failed) => Some(Ended::Failed),
        _ => None,
    };
    if let (Some(ended), true) = (ended, attempt.ours) {
        metrics.attempt_ended(ended);
        if let Some(trace) = &attempt.trace {
            emit_attachment_span(trace, attachment);
        }
    }
    tracing::debug!(
        instance = %attachment.instance,
        eni = %attachment.eni,
        uid = %attachment.uid,
        state = ?attachment.state,
        revision = attachment.revision.0,
        "attachment changed"
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
