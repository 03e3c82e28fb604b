//! The filter of log lines: from `RUST_LOG`, or from a file that may change at run time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::context::set_lines_show_spans;

/// The filter without `RUST_LOG` and a file.
pub(super) const DEFAULT: &str =
    "info,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,opentelemetry=warn,opentelemetry_sdk=warn";

/// The directive before every filter. The library warns of each batch that is not exported; the
/// gateway logs the beginning of an outage, with its cause.
const QUIET_EXPORTER: &str = "opentelemetry-otlp=error";

/// A filter of the lines on standard error.
pub(super) type BoxedFilter = Box<dyn Filter<Registry> + Send + Sync>;

/// The filter in a file, and the handle to replace the one in force. Clones share it.
#[derive(Debug, Clone)]
pub struct LogFilter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    lines_show_spans: bool,
    text: Mutex<String>,
    handle: reload::Handle<LineFilter, Registry>,
}

/// The filter of lines, which hides spans from them where it can: a span that no layer sees is not
/// built. Lines that do not show spans need them only for a directive about them (`[span]=level`).
#[derive(Debug)]
pub(super) struct LineFilter {
    filter: EnvFilter,
    shows_spans: bool,
}

impl LineFilter {
    /// The filter, which is in force from now on.
    pub(super) fn in_force(self) -> Self {
        set_lines_show_spans(self.shows_spans);
        self
    }

    fn hides(&self, metadata: &Metadata<'_>) -> bool {
        !self.shows_spans && metadata.is_span()
    }
}

impl Filter<Registry> for LineFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, Registry>) -> bool {
        !self.hides(metadata) && Filter::enabled(&self.filter, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.hides(metadata) {
            return Interest::never();
        }
        Filter::<Registry>::callsite_enabled(&self.filter, metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<Registry>::max_level_hint(&self.filter)
    }

    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        Filter::on_new_span(&self.filter, span, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Registry>) {
        Filter::on_record(&self.filter, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, Registry>) {
        Filter::on_enter(&self.filter, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, Registry>) {
        Filter::on_exit(&self.filter, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, Registry>) {
        Filter::on_close(&self.filter, id, context);
    }
}

/// Why the filter in a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogFilterError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds no filter.
    #[error("{path} is no log filter")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: ParseError,
    },
    /// The logs have ended.
    #[error("the log filter cannot be replaced")]
    Ended(#[from] reload::Error),
}

impl LogFilter {
    /// The filter of this file, and the handle to read the file again. The lines show spans, or do
    /// not.
    ///
    /// # Errors
    /// The file cannot be read, or holds no filter.
    pub(super) fn open(
        path: PathBuf,
        lines_show_spans: bool,
    ) -> Result<(BoxedFilter, Self), LogFilterError> {
        let (text, filter) = read(&path, lines_show_spans)?;
        let (filter, handle) = reload::Layer::new(filter.in_force());
        let shared = Shared { path, lines_show_spans, text: Mutex::new(text), handle };
        Ok((Box::new(filter), Self(Arc::new(shared))))
    }

    /// Reads the file again, and returns whether it had changed.
    ///
    /// # Errors
    /// [`LogFilterError`]. The filter before stays in force.
    pub async fn reload(&self) -> Result<bool, LogFilterError> {
        let Shared { path, lines_show_spans, text: before, handle } = &*self.0;
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| LogFilterError::Read { path: path.clone(), source })?;
        // Replacing a text cannot panic half-way.
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == text {
            return Ok(false);
        }
        handle.reload(parse(&text, *lines_show_spans).map_err(invalid(path))?.in_force())?;
        *before = text;
        Ok(true)
    }
}

/// Checks the filter in a file.
///
/// # Errors
/// The file cannot be read, or holds no filter.
pub fn check(path: &Path) -> Result<(), LogFilterError> {
    read(path, false).map(drop)
}

fn read(path: &Path, lines_show_spans: bool) -> Result<(String, LineFilter), LogFilterError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LogFilterError::Read { path: path.to_owned(), source })?;
    let filter = parse(&text, lines_show_spans).map_err(invalid(path))?;
    Ok((text, filter))
}

fn invalid(path: &Path) -> impl FnOnce(ParseError) -> LogFilterError {
    |source| LogFilterError::Invalid { path: path.to_owned(), source }
}

/// The filter of this text, for lines that show spans or do not.
///
/// # Errors
/// It is none.
pub(super) fn parse(text: &str, lines_show_spans: bool) -> Result<LineFilter, ParseError> {
    let filter = EnvFilter::try_new(format!("{QUIET_EXPORTER},{}", text.trim()))?;
    Ok(LineFilter { filter, shows_spans: lines_show_spans || text.contains('[') })
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    use super::*;
    use crate::names::span;

    #[test]
    fn lines_without_spans_need_them_only_for_a_directive_about_spans() {
        for (filter, shown, built) in
            [("info", false, false), ("info", true, true), ("info,[rpc]=debug", false, true)]
        {
            let filter = parse(filter, shown).expect("valid");
            let lines = tracing_subscriber::fmt::layer().with_writer(io::sink);
            let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
            tracing::subscriber::with_default(subscriber, || {
                assert_eq!(tracing::info_span!(span::RPC).is_disabled(), !built);
                assert!(tracing::enabled!(Level::INFO));
            });
        }
    }

    #[tokio::test]
    async fn a_new_file_is_taken_and_a_bad_one_is_not() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("filter");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write("info\n");
        let (filter, handle) = LogFilter::open(path.clone(), false).expect("valid");
        let lines = tracing_subscriber::fmt::layer().with_writer(io::sink).with_filter(filter);
        let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
        assert!(!tracing::enabled!(Level::DEBUG));
        assert!(!handle.reload().await.expect("unchanged"));

        write("warn,eni_gateway=debug\n");
        assert!(handle.reload().await.expect("valid"));
        assert!(tracing::enabled!(Level::DEBUG));

        write("eni_gateway=loud");
        let error = handle.reload().await.expect_err("no level");
        assert!(error.to_string().contains("filter"), "{error}");
        assert!(tracing::enabled!(Level::DEBUG), "the one before stays");
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(handle.reload().await, Err(LogFilterError::Read { .. })));
    }
}
