//! Log lines as JSON objects, with the ids of their trace.
//!
//! The ids come from the active OpenTelemetry context, not from the subscriber's span. A log filter
//! that hides a span must not hide its trace.

use std::fmt;
use std::io::Write as _;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Space for the fields of most lines, in bytes.
const USUAL: usize = 512;

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
        let (now, level) = (jiff::Timestamp::now(), metadata.level());
        write!(writer, r#"{{"timestamp":"{now:.6}","level":"{level}","target":"#)?;
        let target = serde_json::to_string(metadata.target()).map_err(|_| fmt::Error)?;
        writer.write_str(&target)?;
        for part in [&fields.message, &fields.others] {
            writer.write_str(str::from_utf8(part).map_err(|_| fmt::Error)?)?;
        }
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            if !span.is_valid() {
                return Ok(());
            }
            let (trace, span) = (span.trace_id(), span.span_id());
            write!(writer, r#","trace_id":"{trace}","span_id":"{span}""#)
        })?;
        writer.write_str("}\n")
    }
}

/// Fields as the rest of a JSON object: each begins with a comma.
struct Fields {
    message: Vec<u8>,
    others: Vec<u8>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { message: Vec::new(), others: Vec::with_capacity(USUAL) }
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Serialize) {
        let to = if field.name() == "message" { &mut self.message } else { &mut self.others };
        // Memory takes every byte.
        let _ = write!(to, ",\"{}\":", field.name());
        let _ = serde_json::to_writer(to, &value);
    }
}

/// A value as a string.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Text(format_args!("{value:?}")));
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
