//! Log lines as JSON objects, with the ids of their trace.
//!
//! The ids come from the active OpenTelemetry context, not from the subscriber's span. A log filter
//! that hides a span must not hide its trace.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde::Serializer as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as JSON lines: `timestamp`, `level`, `target`, `message`, the event's fields,
/// `trace_id`, `span_id`, in this order.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (metadata, mut fields) = (event.metadata(), Fields::default());
        event.record(&mut fields);
        let mut line = vec![
            ("timestamp", Value::String(format!("{:.6}", jiff::Timestamp::now()))),
            ("level", metadata.level().as_str().into()),
            ("target", metadata.target().into()),
        ];
        line.extend(fields.message.map(|message| ("message", message)));
        line.extend(fields.others);
        let context = Context::current();
        let span = context.span().span_context().clone();
        if span.is_valid() {
            line.push(("trace_id", span.trace_id().to_string().into()));
            line.push(("span_id", span.span_id().to_string().into()));
        }
        let mut json = Vec::new();
        serde_json::Serializer::new(&mut json).collect_map(line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{}", String::from_utf8(json).map_err(|_| fmt::Error)?)
    }
}

#[derive(Default)]
struct Fields {
    message: Option<Value>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        match field.name() {
            "message" => self.message = Some(value.into()),
            name => self.others.push((name, value.into())),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, chain(value));
    }
}

/// The chain of causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
