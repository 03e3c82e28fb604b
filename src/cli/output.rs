//! The commands' output: a table for people, one JSON object a line for scripts.

use std::io::{self, Write};

use super::refusal::Refusal;
use super::style::{BAD, clean, paint};
use super::{json, table};
use crate::grpc::proto::attach_result::Result as Of;
use crate::grpc::proto::{AttachResult, Attachment};

/// What to print: columns for people, or one object a line with the proto's JSON names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    // No doc comments: they would lengthen every help text.
    Table,
    Json,
}

/// Standard output in one format. Each method flushes, because a reader may wait for the line.
pub(super) struct Output {
    format: Format,
    to: anstream::AutoStream<io::Stdout>,
    table: Option<table::Table>,
    /// Whether the attachments are of several instances.
    of_fleet: bool,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, to: anstream::stdout(), table: None, of_fleet: false }
    }

    /// For attachments of several instances.
    pub(super) fn of_fleet(format: Format) -> Self {
        Self { of_fleet: true, ..Self::new(format) }
    }

    /// Prints one attachment with all details.
    pub(super) fn whole(&mut self, attachment: &Attachment) -> io::Result<()> {
        match self.format {
            Format::Table => self.to.write_all(table::details(attachment).as_bytes())?,
            Format::Json => writeln!(self.to, "{}", json::attachment(attachment))?,
        }
        self.to.flush()
    }

    /// Prints these attachments together.
    pub(super) fn all(&mut self, attachments: &[Attachment]) -> io::Result<()> {
        self.table = None;
        let of_fleet = self.of_fleet;
        for attachment in attachments {
            self.row_in(attachment, || table::Table::fitting(attachments, of_fleet))?;
        }
        self.to.flush()
    }

    /// Prints one of a series of attachments.
    pub(super) fn next(&mut self, attachment: &Attachment) -> io::Result<()> {
        let of_fleet = self.of_fleet;
        self.row_in(attachment, || table::Table::usual(of_fleet))?;
        self.to.flush()
    }

    fn row_in(
        &mut self,
        attachment: &Attachment,
        layout: impl FnOnce() -> table::Table,
    ) -> io::Result<()> {
        if self.format == Format::Json {
            return writeln!(self.to, "{}", json::attachment(attachment));
        }
        if self.table.is_none() {
            let layout = layout();
            writeln!(self.to, "{}", layout.head())?;
            self.table = Some(layout);
        }
        self.table.as_ref().map_or(Ok(()), |table| writeln!(self.to, "{}", table.row(attachment)))
    }

    /// Prints the result of one ENI of a batch. In a table, a failure goes to standard error.
    pub(super) fn result(&mut self, result: &AttachResult) -> io::Result<()> {
        match (&result.result, self.format) {
            (_, Format::Json) => writeln!(self.to, "{}", json::attach_result(result))?,
            (Some(Of::Attachment(attachment)), Format::Table) => return self.next(attachment),
            (Some(Of::Error(error)), Format::Table) => {
                let headline = Refusal::from(error.clone()).headline();
                let eni = clean(&result.network_interface_id);
                writeln!(anstream::stderr(), "{} {eni}: {headline}", paint(BAD, "failed:"))?;
            }
            (None, Format::Table) => {
                writeln!(self.to, "{}:", clean(&result.network_interface_id))?;
                return self.validated(None, &result.checks);
            }
        }
        self.to.flush()
    }

    /// Prints the result of `validate_only`.
    pub(super) fn validated(
        &mut self,
        attachment: Option<&Attachment>,
        checks: &[String],
    ) -> io::Result<()> {
        match self.format {
            Format::Json => writeln!(self.to, "{}", json::validated(attachment, checks))?,
            Format::Table => {
                writeln!(self.to, "the attach is possible; checked:")?;
                for check in checks {
                    writeln!(self.to, "  {}", clean(check))?;
                }
            }
        }
        self.to.flush()
    }
}
