//! Attachments as rows for people.

use anstyle::Style;

use super::json::rfc3339;
use super::style::{self, BAD, BUSY, GOOD, HEAD, clean, paint};
use crate::grpc::proto::Attachment;
use crate::grpc::proto::attachment::State;

/// Columns of an instance's attachments, with the widths for rows printed one by one. Together
/// they fit 80 columns.
const OF_INSTANCE: &[(Column, usize)] = &[
    (Column::Eni, 17),
    (Column::State, 9),
    (Column::EnsStatus, 10),
    (Column::Updated, 20),
    (Column::Revision, 16),
];
/// The same for attachments of several instances. The ids take the place of the revision, which
/// only the watch of one instance continues from.
const OF_FLEET: &[(Column, usize)] = &[
    (Column::InstanceAndEni, 35),
    (Column::State, 9),
    (Column::EnsStatus, 10),
    (Column::Updated, 20),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Eni,
    InstanceAndEni,
    State,
    EnsStatus,
    Updated,
    Revision,
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Eni => "ENI",
            Self::InstanceAndEni => "INSTANCE/ENI",
            Self::State => "STATE",
            Self::EnsStatus => "ENS STATUS",
            Self::Updated => "UPDATED",
            Self::Revision => "REVISION",
        }
    }

    fn cell(self, of: &Attachment) -> String {
        match self {
            Self::Eni => clean(&of.network_interface_id),
            Self::InstanceAndEni => {
                clean(&format!("{}/{}", of.instance_id, of.network_interface_id))
            }
            Self::State => state(of.state).0,
            Self::EnsStatus => clean(&of.ens_status),
            // The revision is exact.
            Self::Updated => of.update_time.and_then(whole_seconds).unwrap_or_default(),
            Self::Revision => of.revision.to_string(),
        }
    }
}

fn whole_seconds(time: prost_types::Timestamp) -> Option<String> {
    rfc3339(prost_types::Timestamp { nanos: 0, ..time })
}

/// A table's columns and their widths.
pub(super) struct Table(Vec<(Column, usize)>);

impl Table {
    /// A table for rows that come one by one.
    pub(super) fn usual(of_fleet: bool) -> Self {
        Self(if of_fleet { OF_FLEET } else { OF_INSTANCE }.to_vec())
    }

    /// A table that fits these attachments.
    pub(super) fn fitting(attachments: &[Attachment], of_fleet: bool) -> Self {
        let Self(mut columns) = Self::usual(of_fleet);
        for (column, width) in &mut columns {
            let cells = attachments.iter().map(|it| column.cell(it).chars().count());
            *width = cells.chain([column.heading().len()]).max().unwrap_or_default();
        }
        Self(columns)
    }

    pub(super) fn head(&self) -> String {
        self.line(|column| (column.heading().to_owned(), HEAD))
    }

    /// The row of an attachment, and its detail below it.
    pub(super) fn row(&self, attachment: &Attachment) -> String {
        let row = self.line(|column| {
            let style = match column {
                Column::State => state(attachment.state).1,
                _ => Style::new(),
            };
            (column.cell(attachment), style)
        });
        row + &style::below(&detail(attachment))
    }

    fn line(&self, cell: impl Fn(Column) -> (String, Style)) -> String {
        style::row(self.0.iter().map(|(column, width)| {
            let (cell, style) = cell(*column);
            (cell, *width, style)
        }))
    }
}

/// A state's name for people, and its colour.
pub(super) fn state(number: i32) -> (String, Style) {
    let Ok(state) = State::try_from(number) else {
        return (format!("state {number}"), Style::new());
    };
    let style = match state {
        State::Attached => GOOD,
        State::Failed => BAD,
        State::Detached | State::Unspecified => Style::new(),
        State::Pending | State::Verifying | State::Attaching | State::Detaching => BUSY,
    };
    (state.as_str_name().trim_start_matches("STATE_").to_owned(), style)
}

fn detail(attachment: &Attachment) -> String {
    match &attachment.error {
        Some(error) => clean(&format!("{}: {}", error.reason, error.message)),
        None if attachment.stuck => {
            "stuck: in flight for longer than tracker.stuck_after".to_owned()
        }
        None => String::new(),
    }
}

/// The details of one attachment, one on each line.
pub(super) fn details(attachment: &Attachment) -> String {
    let time = |time: Option<prost_types::Timestamp>| time.and_then(rfc3339).unwrap_or_default();
    let (name, style) = state(attachment.state);
    let seen = match time(attachment.observe_time) {
        seen if seen.is_empty() => String::new(),
        seen => format!(" (seen {seen})"),
    };
    let mut lines = vec![
        ("instance", clean(&attachment.instance_id)),
        ("ENI", clean(&attachment.network_interface_id)),
        ("attempt", clean(&attachment.uid)),
        ("state", paint(style, &name)),
        ("ENS status", format!("{}{seen}", clean(&attachment.ens_status))),
        ("revision", attachment.revision.to_string()),
        ("created", time(attachment.create_time)),
        ("updated", time(attachment.update_time)),
        ("ENS request", clean(&attachment.ens_request_id)),
        ("detail", detail(attachment)),
    ];
    let steps = attachment
        .transitions
        .iter()
        .map(|step| format!("{:9}  {}", state(step.state).0, time(step.time)));
    lines.extend(std::iter::once("history").chain(std::iter::repeat("")).zip(steps));
    lines.retain(|(_, value)| !value.is_empty());
    lines.into_iter().map(|(name, value)| format!("{name:11}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_fits_80_columns() {
        for of_fleet in [false, true] {
            let head = anstream::adapter::strip_str(&Table::usual(of_fleet).head()).to_string();
            assert!(head.len() <= 80, "{head}");
        }
        let widths = |columns: &[(Column, usize)]| columns.iter().map(|(_, width)| width + 2).sum();
        let (instance, fleet): (usize, usize) = (widths(OF_INSTANCE), widths(OF_FLEET));
        assert!(instance - 2 <= 80 && fleet - 2 <= 80, "{instance} {fleet}");
    }
}
