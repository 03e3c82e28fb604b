//! Where the commands print to: a table for people, one JSON object a line for scripts. Colours are always written and
//! taken out again where the reader has no use for them.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::{json, table};
use crate::grpc::proto::Attachment;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const BUSY: Style = AnsiColor::Yellow.on_default();
pub(super) const HEAD: Style = Style::new().bold();
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// What to print: columns for people, or one object a line with the proto's JSON names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    // No doc comments: they would stretch every help text.
    Table,
    Json,
}

/// `text` in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` without what would move the cursor, ring the bell or break the line: it may come from anywhere.
pub(super) fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Standard output, in one format. Each method flushes: others may be waiting for the line.
pub(super) struct Output {
    format: Format,
    to: anstream::AutoStream<io::Stdout>,
    table: Option<table::Table>,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            to: anstream::stdout(),
            table: None,
        }
    }

    /// One attachment, with all that is known of it.
    pub(super) fn whole(&mut self, attachment: &Attachment) -> io::Result<()> {
        match self.format {
            Format::Table => self.to.write_all(table::details(attachment).as_bytes())?,
            Format::Json => writeln!(self.to, "{}", json::attachment(attachment))?,
        }
        self.to.flush()
    }

    /// All of them at once.
    pub(super) fn all(&mut self, attachments: &[Attachment]) -> io::Result<()> {
        self.table = None;
        for attachment in attachments {
            self.row_in(attachment, || table::Table::fitting(attachments))?;
        }
        self.to.flush()
    }

    /// One of those that come as they change.
    pub(super) fn next(&mut self, attachment: &Attachment) -> io::Result<()> {
        self.row_in(attachment, table::Table::usual)?;
        self.to.flush()
    }

    fn row_in(&mut self, attachment: &Attachment, layout: impl FnOnce() -> table::Table) -> io::Result<()> {
        if self.format == Format::Json {
            return writeln!(self.to, "{}", json::attachment(attachment));
        }
        if self.table.is_none() {
            let layout = layout();
            writeln!(self.to, "{}", layout.head())?;
            self.table = Some(layout);
        }
        self.table
            .as_ref()
            .map_or(Ok(()), |table| writeln!(self.to, "{}", table.row(attachment)))
    }

    /// What `validate_only` found.
    pub(super) fn validated(&mut self, attachment: Option<&Attachment>, checks: &[String]) -> io::Result<()> {
        match self.format {
            Format::Json => writeln!(self.to, "{}", json::validated(attachment, checks))?,
            Format::Table => {
                writeln!(self.to, "nothing speaks against it; checked:")?;
                for check in checks {
                    writeln!(self.to, "  {}", clean(check))?;
                }
            }
        }
        self.to.flush()
    }
}
