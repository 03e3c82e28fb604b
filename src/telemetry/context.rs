//! One attach is one trace, from the caller through the asynchronous wait to its end on whichever replica sees it.
//!
//! The order for a server's span: create it, [`adopt_parent`], then enter or instrument it. A parent that comes after the span was
//! entered is refused, and the trace is split.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::names::{attribute, span as span_name};
use crate::ledger::record::TraceContext;
use crate::model::{Attachment, Timestamp};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Makes `span`, not yet entered, a child of the caller's span, if these headers hold W3C context.
pub fn adopt_parent(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if context.span().span_context().is_valid()
        && let Err(error) = span.set_parent(context)
    {
        tracing::debug!(%error, "the caller's trace is not continued");
    }
}

/// Writes the current span's W3C context into the headers of an outgoing call.
pub fn inject(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersMut(headers));
}

/// The current span's context, sampled flag included, in the form in which it is kept in a record; `None` outside of a span.
#[must_use]
pub fn current_trace() -> Option<TraceContext> {
    let mut trace = TraceContext::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut trace);
    (!trace.parent.is_empty()).then_some(trace)
}

/// Links `span` to the RPC that began an attempt.
pub fn link_to(span: &Span, trace: &TraceContext) {
    if let Some(context) = span_context(trace) {
        span.add_link(context);
    }
}

/// Sets an attribute that the span did not declare.
pub fn set(span: &Span, name: &'static str, value: impl Into<Value>) {
    span.set_attribute(name, value);
}

/// Marks `span` as failed, with the reason.
pub fn fail(span: &Span, error_type: &'static str) {
    span.set_attribute(attribute::ERROR_TYPE, error_type);
    span.set_status(Status::error(error_type));
}

/// Emits the `attachment` span of an attempt that ended: over its whole life, as a child of the RPC that began it.
pub fn emit_attachment_span(trace: &TraceContext, attachment: &Attachment) {
    let Some(parent) = span_context(trace) else { return };
    let mut attributes = vec![
        KeyValue::new(attribute::INSTANCE_ID, attachment.instance.to_string()),
        KeyValue::new(attribute::INTERFACE_ID, attachment.eni.to_string()),
        KeyValue::new(attribute::ATTACHMENT_UID, attachment.uid.to_string()),
        KeyValue::new(attribute::ATTACHMENT_STATE, attachment.state.name()),
    ];
    let error = attachment.error.as_ref();
    attributes.extend(error.map(|error| KeyValue::new(attribute::ERROR_TYPE, error.reason.name())));
    let request_id = Some(attachment.last_request_id()).filter(|id| !id.is_empty());
    attributes.extend(request_id.map(|id| KeyValue::new(attribute::ENS_REQUEST_ID, id.to_owned())));

    let tracer = opentelemetry::global::tracer("eni_gateway");
    let mut span = tracer
        .span_builder(span_name::ATTACHMENT)
        .with_kind(SpanKind::Internal)
        .with_start_time(system_time(attachment.created_at))
        .with_attributes(attributes)
        .start_with_context(&tracer, &Context::new().with_remote_span_context(parent));
    for transition in &attachment.transitions {
        span.add_event_with_timestamp(transition.state.name(), system_time(transition.time), Vec::new());
    }
    if let Some(error) = error {
        span.set_status(Status::error(error.message.clone()));
    }
    span.end_with_timestamp(system_time(attachment.updated_at.max(attachment.created_at)));
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_micros(time.as_micros()))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `None` for a context that is not valid: another version or a damaged record wrote it.
fn span_context(trace: &TraceContext) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), trace);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

impl Extractor for TraceContext {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(&self.parent),
            TRACESTATE => Some(&self.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Injector for TraceContext {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.parent = value,
            TRACESTATE => self.state = value,
            _ => {}
        }
    }
}
