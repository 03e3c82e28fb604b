//! The trace context of each span of this crate, and its record for the exporter.
//!
//! Log lines name a context's ids, and an attempt's record keeps it. Only a sampled span is
//! recorded. A span within the process follows its parent's decision before its attributes are
//! read. Without an exporter no span is sampled.

use std::cell::RefCell;
use std::fmt;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, Tracer,
};
use opentelemetry::{Context as OtelContext, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, Span as SdkSpan};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use tracing_subscriber::{Layer, Registry};

use crate::names::otel;

thread_local! {
    /// The contexts of this thread's entered spans, the innermost last.
    static ENTERED: RefCell<Vec<(Id, SpanContext)>> = const { RefCell::new(Vec::new()) };
}

/// The context of the current span; `None` outside of a span.
pub(super) fn current() -> Option<SpanContext> {
    ENTERED.with_borrow(|entered| entered.last().map(|(_, context)| context.clone()))
}

/// Links a span to another context, if the span is recorded.
pub(super) fn link(span: &Span, to: SpanContext) {
    span.with_subscriber(|(id, subscriber)| {
        let span = subscriber.downcast_ref::<Registry>().and_then(|registry| registry.span(id));
        on_recorded(span, |recorded| recorded.add_link(to, Vec::new()));
    });
}

/// What is kept with a span.
struct SpanTrace {
    context: SpanContext,
    /// `None` if it is not sampled.
    recorded: Option<SdkSpan>,
}

/// The layer that gives each span its context, and records the sampled ones.
pub(super) struct Spans {
    /// `None` without an exporter.
    tracer: Option<SdkTracer>,
    ids: RandomIdGenerator,
}

impl Spans {
    pub(super) fn new(tracer: Option<SdkTracer>) -> Self {
        Self { tracer, ids: RandomIdGenerator::default() }
    }

    fn begin(&self, attributes: &Attributes<'_>, parent: &SpanContext) -> SpanTrace {
        let is_local = parent.is_valid() && !parent.is_remote();
        let tracer = self.tracer.as_ref().filter(|_| !is_local || parent.is_sampled());
        if let Some(tracer) = tracer {
            let span = record(tracer, attributes, parent);
            return SpanTrace {
                context: span.span_context().clone(),
                recorded: Some(span).filter(SdkSpan::is_recording),
            };
        }
        let trace_id = if parent.is_valid() { parent.trace_id() } else { self.ids.new_trace_id() };
        let (id, flags) = (self.ids.new_span_id(), TraceFlags::default());
        let context = SpanContext::new(trace_id, id, flags, false, parent.trace_state().clone());
        SpanTrace { context, recorded: None }
    }
}

/// Starts a span for the exporter, whose sampler decides about spans without a local parent.
fn record(tracer: &SdkTracer, attributes: &Attributes<'_>, parent: &SpanContext) -> SdkSpan {
    let mut fields = Fields::default();
    attributes.record(&mut fields);
    let name = fields.name.take().unwrap_or_else(|| attributes.metadata().name().to_owned());
    let builder = tracer
        .span_builder(name)
        .with_kind(fields.kind.take().unwrap_or(SpanKind::Internal))
        .with_attributes(std::mem::take(&mut fields.attributes));
    let parent = OtelContext::new().with_remote_span_context(parent.clone());
    let mut span = tracer.build_with_context(builder, &parent);
    fields.apply(&mut span);
    span
}

/// The context of the parent: a span of this process, or else that of a caller. Invalid for a root.
fn parent_of<S>(attributes: &Attributes<'_>, context: &Context<'_, S>) -> SpanContext
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let span = match attributes.parent() {
        Some(id) => context.span(id),
        None if attributes.is_contextual() => context.lookup_current(),
        None => None,
    };
    let local = span.and_then(|span| Some(span.extensions().get::<SpanTrace>()?.context.clone()));
    local.unwrap_or_else(|| {
        if attributes.is_contextual() {
            OtelContext::current().span().span_context().clone()
        } else {
            SpanContext::empty_context()
        }
    })
}

impl<S> Layer<S> for Spans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let trace = self.begin(attributes, &parent_of(attributes, &context));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(trace);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        on_recorded(context.span(id), |span| {
            let mut fields = Fields::default();
            values.record(&mut fields);
            fields.apply(span);
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        on_recorded(context.event_span(event), |span| {
            let mut fields = Fields::default();
            event.record(&mut fields);
            span.add_event(fields.message.unwrap_or_default(), fields.attributes);
        });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        if let Some(trace) = span.extensions().get::<SpanTrace>() {
            let entry = (id.clone(), trace.context.clone());
            ENTERED.with_borrow_mut(|entered| entered.push(entry));
        }
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(place) = entered.iter().rposition(|(other, _)| other == id) {
                entered.remove(place);
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        on_recorded(context.span(&id), SdkSpan::end);
    }
}

fn on_recorded<S: for<'a> LookupSpan<'a>>(
    span: Option<SpanRef<'_, S>>,
    change: impl FnOnce(&mut SdkSpan),
) {
    let Some(span) = span else {
        return;
    };
    let mut extensions = span.extensions_mut();
    if let Some(recorded) =
        extensions.get_mut::<SpanTrace>().and_then(|trace| trace.recorded.as_mut())
    {
        change(recorded);
    }
}

/// The fields of a span or an event, in OpenTelemetry's terms.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    kind: Option<SpanKind>,
    failed: bool,
    message: Option<String>,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn apply(self, span: &mut SdkSpan) {
        if let Some(name) = self.name {
            span.update_name(name);
        }
        if self.failed {
            span.set_status(Status::error(""));
        }
        span.set_attributes(self.attributes);
    }

    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match field.name() {
            otel::NAME => self.name = Some(value.to_string()),
            otel::KIND => {
                self.kind = Some(match &*value.as_str() {
                    "server" => SpanKind::Server,
                    "client" => SpanKind::Client,
                    _ => SpanKind::Internal,
                });
            }
            otel::STATUS => self.failed = true,
            "message" => self.message = Some(value.to_string()),
            name => self.attributes.push(KeyValue::new(name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}
