//! Attachments as rows for people.

use anstyle::Style;

use super::json::rfc3339;
use super::style::{BAD, BUSY, GOOD, HEAD, clean, paint};
use crate::grpc::proto::Attachment;
use crate::grpc::proto::attachment::State;

const COLUMNS: [&str; 6] = ["ENI", "STATE", "ENS STATUS", "UPDATED", "REVISION", "DETAIL"];
/// Column widths for rows printed one by one. Together they fit 80 columns.
const USUAL_WIDTHS: [usize; 5] = [17, 9, 10, 20, 16];

fn columns(of_fleet: bool) -> [&'static str; 6] {
    let mut columns = COLUMNS;
    if of_fleet {
        columns[0] = "INSTANCE/ENI";
    }
    columns
}

/// A row for one attachment.
struct Row {
    cells: [String; 6],
    style: Style,
}

impl Row {
    fn of(attachment: &Attachment, of_fleet: bool) -> Self {
        let (state, style) = state(attachment.state);
        let (instance, eni) = (&attachment.instance_id, &attachment.network_interface_id);
        Self {
            cells: [
                clean(&if of_fleet { format!("{instance}/{eni}") } else { eni.clone() }),
                state,
                clean(&attachment.ens_status),
                // The revision is exact.
                attachment.update_time.and_then(whole_seconds).unwrap_or_default(),
                attachment.revision.to_string(),
                detail(attachment),
            ],
            style,
        }
    }
}

fn whole_seconds(time: prost_types::Timestamp) -> Option<String> {
    rfc3339(prost_types::Timestamp { nanos: 0, ..time })
}

/// A table's column widths.
pub(super) struct Table {
    widths: [usize; 5],
    /// Whether the first column has the instance, too.
    of_fleet: bool,
}

impl Table {
    /// A table for rows that come one by one.
    pub(super) fn usual(of_fleet: bool) -> Self {
        let mut widths = USUAL_WIDTHS;
        if of_fleet {
            // Two ids, and the slash between them.
            widths[0] = 2 * widths[0] + 1;
        }
        Self { widths, of_fleet }
    }

    /// A table that fits these attachments.
    pub(super) fn fitting(attachments: &[Attachment], of_fleet: bool) -> Self {
        let rows: Vec<_> = attachments.iter().map(|it| Row::of(it, of_fleet)).collect();
        let columns = columns(of_fleet);
        Self {
            of_fleet,
            widths: std::array::from_fn(|column| {
                let cells = rows.iter().map(|row| row.cells[column].chars().count());
                cells.chain([columns[column].len()]).max().unwrap_or_default()
            }),
        }
    }

    pub(super) fn head(&self) -> String {
        self.line(&columns(self.of_fleet).map(str::to_owned), HEAD, HEAD)
    }

    pub(super) fn row(&self, attachment: &Attachment) -> String {
        let row = Row::of(attachment, self.of_fleet);
        self.line(&row.cells, Style::new(), row.style)
    }

    fn line(&self, cells: &[String; 6], plain: Style, state: Style) -> String {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            // Padded first, because escape sequences have no width.
            let padded = self
                .widths
                .get(column)
                .map_or_else(|| cell.clone(), |width| format!("{cell:width$}  "));
            line.push_str(&paint(if COLUMNS[column] == "STATE" { state } else { plain }, &padded));
        }
        line.trim_end().to_owned()
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
