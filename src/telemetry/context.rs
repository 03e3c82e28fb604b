//! One trace for each attach, from the caller through the asynchronous wait to its end on any
//! replica.
//!
//! A server's span must be created, passed to [`adopt_parent`], then entered. A parent set after
//! the span was entered is refused, and the trace is split.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::model::{Attachment, Timestamp, TraceContext};
use crate::names::{attribute, otel, span};

/// Tracer of spans that are emitted after their end.
const TRACER: &str = "eni_gateway";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Maximum length of a caller's `tracestate`, as W3C asks to keep at least. Each attempt's record
/// holds one.
const MAX_TRACESTATE: usize = 512;

static LINES_SHOW_SPANS: AtomicBool = AtomicBool::new(true);

/// Sets the caller's span as parent of `span`, if the headers hold W3C context, and begins `span`.
/// Returns whether anything reads its attributes, as [`is_recorded`]. `span` must not be entered
/// yet.
pub fn adopt_parent(span: &Span, headers: &HeaderMap) -> bool {
    if headers.contains_key(TRACEPARENT) {
        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        if context.span().span_context().is_valid()
            && let Err(error) = span.set_parent(context)
        {
            tracing::debug!(%error, "the caller's trace is not continued");
        }
    }
    !is_unsampled(&span.context()) || LINES_SHOW_SPANS.load(Ordering::Relaxed)
}

/// Whether anything reads the attributes of the current span: its trace is sampled, or log lines
/// show them.
#[must_use]
pub fn is_recorded() -> bool {
    !in_unsampled_trace() || LINES_SHOW_SPANS.load(Ordering::Relaxed)
}

/// Sets whether log lines show spans.
pub(super) fn set_lines_show_spans(shown: bool) {
    LINES_SHOW_SPANS.store(shown, Ordering::Relaxed);
}

/// Whether the current trace is not sampled. False outside of a trace.
pub(super) fn in_unsampled_trace() -> bool {
    Context::map_current(is_unsampled)
}

fn is_unsampled(context: &Context) -> bool {
    context.has_active_span() && !context.span().span_context().is_sampled()
}

/// The current span's context for a record, with the sampled flag; `None` outside of a span.
#[must_use]
pub fn current_trace() -> Option<TraceContext> {
    let mut trace = TraceContext::default();
    Context::map_current(|context| {
        TraceContextPropagator::new().inject_context(context, &mut trace);
    });
    (!trace.parent.is_empty()).then_some(trace)
}

/// Links `span` to the RPC that began an attempt.
pub fn link_to(span: &Span, trace: &TraceContext) {
    if let Some(context) = span_context(trace) {
        span.add_link(context);
    }
}

/// Runs `write` in the RPC's trace, so that a log line has the ids of that trace. Without one, it
/// runs in the current trace.
pub(super) fn in_trace(trace: Option<&TraceContext>, write: impl FnOnce()) {
    let context = trace.and_then(span_context);
    let context = context.map(|it| Context::new().with_remote_span_context(it).attach());
    write();
    drop(context);
}

/// The span of one describe for this many attempts or instances. It is a separate trace, because it
/// serves many attempts.
pub fn poll_span(batch: usize) -> Span {
    tracing::info_span!(
        parent: None,
        span::POLL,
        { otel::KIND } = "internal",
        { attribute::BATCH_SIZE } = batch,
    )
}

/// Emits the `lock wait` span of a wait that ends now, as a child of the current span, if that is
/// sampled.
pub fn emit_lock_wait_span(waited: Duration) {
    let parent = Context::current();
    if !parent.span().span_context().is_sampled() {
        return;
    }
    let end = SystemTime::now();
    let tracer = opentelemetry::global::tracer(TRACER);
    tracer
        .span_builder(span::LOCK_WAIT)
        .with_kind(SpanKind::Internal)
        .with_start_time(end.checked_sub(waited).unwrap_or(end))
        .start_with_context(&tracer, &parent)
        .end_with_timestamp(end);
}

/// Emits the `attachment` span of an ended attempt, over its whole life, as a child of its RPC, if
/// that was sampled.
pub fn emit_attachment_span(trace: &TraceContext, attachment: &Attachment) {
    let Some(parent) = span_context(trace).filter(SpanContext::is_sampled) else {
        return;
    };
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

    let tracer = opentelemetry::global::tracer(TRACER);
    let mut span = tracer
        .span_builder(span::ATTACHMENT)
        .with_kind(SpanKind::Internal)
        .with_start_time(system_time(attachment.created_at))
        .with_attributes(attributes)
        .start_with_context(&tracer, &Context::new().with_remote_span_context(parent));
    for transition in &attachment.transitions {
        span.add_event_with_timestamp(
            transition.state.name(),
            system_time(transition.time),
            Vec::new(),
        );
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

/// The span context; `None` for another version or a damaged record.
fn span_context(trace: &TraceContext) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), trace);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key)?.to_str().ok()?;
        if key != TRACESTATE || value.len() <= MAX_TRACESTATE {
            return Some(value);
        }
        // Whole members, of which the last ones are the oldest.
        let end = value.get(..=MAX_TRACESTATE)?.rfind(',')?;
        value.get(..end)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
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
