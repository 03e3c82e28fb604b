//! The table of all callers: a pure function from events to text.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CallerPhase, DemoEvent};
use crate::cli::style::{HEAD, clean, paint};
use crate::model::State;

/// The last event of each caller.
#[derive(Debug, Clone, Default)]
pub struct StatusTable {
    callers: BTreeMap<usize, DemoEvent>,
}

impl StatusTable {
    /// Adds an event.
    pub fn take(&mut self, event: DemoEvent) {
        self.callers.insert(event.caller, event);
    }

    /// The last event of each caller, in order.
    pub fn callers(&self) -> impl Iterator<Item = &DemoEvent> {
        self.callers.values()
    }

    /// The table after `elapsed`, with its heading and counts. Each line has at most `width`
    /// columns.
    #[must_use]
    pub fn lines(&self, width: usize, elapsed: Duration) -> Vec<String> {
        let eni_width = self
            .callers()
            .map(|event| event.eni.as_str().len())
            .chain([3])
            .max()
            .unwrap_or_default();
        let heading = format!("CALLER  {:eni_width$}  STATE         AFTER  DETAIL", "ENI");
        let mut lines = vec![paint(HEAD, &cut(&heading, width))];
        lines.extend(self.callers().map(|event| {
            let before = format!("{:>6}  {:eni_width$}  ", event.caller, event.eni.as_str());
            let state = format!("{:9}", event.phase.name());
            let after = format!("  {:>8}  {}", seconds(event.at), clean(&event.detail));
            let mut room = width;
            let mut fit = |cell: &str| {
                let cell = cut(cell, room);
                room -= cell.chars().count();
                cell
            };
            let (before, state, after) = (fit(&before), fit(&state), fit(&after));
            format!("{before}{}{}", paint(event.phase.style(), &state), after.trim_end())
        }));
        let count = |wanted: fn(CallerPhase) -> bool| {
            self.callers().filter(|event| wanted(event.phase)).count()
        };
        let attached = count(|phase| phase == CallerPhase::State(State::Attached));
        let refused = count(|phase| matches!(phase, CallerPhase::Refused(_)));
        let failed =
            count(|phase| matches!(phase, CallerPhase::Broken | CallerPhase::State(State::Failed)));
        let under_way = self.callers.len() - attached - refused - failed;
        let failed = if failed > 0 { format!("{failed} failed, ") } else { String::new() };
        let counts = format!(
            "{attached} attached, {refused} refused, {failed}{under_way} in flight after {}",
            seconds(elapsed)
        );
        lines.push(cut(&counts, width));
        lines
    }
}

/// An event as a line.
#[must_use]
pub fn line(event: &DemoEvent) -> String {
    let state = paint(event.phase.style(), &format!("{:9}", event.phase.name()));
    let line = format!(
        "{:>8}  caller {:>3}  {}  {state}  {}",
        seconds(event.at),
        event.caller,
        event.eni,
        clean(&event.detail)
    );
    line.trim_end().to_owned()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// The first `width` characters. If any were cut, the last one is a mark.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reason;

    fn event(caller: usize, phase: CallerPhase, millis: u64, detail: &str) -> DemoEvent {
        let eni = format!("eni-demo-{caller:02}").parse().unwrap();
        DemoEvent {
            caller,
            eni,
            phase,
            at: Duration::from_millis(millis),
            detail: detail.to_owned(),
        }
    }

    fn table() -> StatusTable {
        let mut table = StatusTable::default();
        table.take(event(2, CallerPhase::State(State::Attaching), 310, "Attaching"));
        table.take(event(1, CallerPhase::Calling, 1, ""));
        table.take(event(3, CallerPhase::State(State::Attached), 2345, "InUse"));
        table.take(event(12, CallerPhase::Calling, 2, ""));
        table.take(event(
            12,
            CallerPhase::Refused(Reason::EniLimitExceeded),
            420,
            "ENI_LIMIT_EXCEEDED: it is full",
        ));
        table
    }

    fn plain(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn the_table_shows_each_caller_once_in_order() {
        insta::assert_snapshot!(plain(&table().lines(100, Duration::from_millis(2400))), @r"
        CALLER  ENI          STATE         AFTER  DETAIL
             1  eni-demo-01  calling      0.00 s
             2  eni-demo-02  ATTACHING    0.31 s  Attaching
             3  eni-demo-03  ATTACHED     2.34 s  InUse
            12  eni-demo-12  REFUSED      0.42 s  ENI_LIMIT_EXCEEDED: it is full
        1 attached, 1 refused, 2 in flight after 2.40 s
        ");
    }

    #[test]
    fn a_narrow_terminal_is_kept_to() {
        for width in [0, 1, 10, 30, 40, 50] {
            for line in plain(&table().lines(width, Duration::ZERO)).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        insta::assert_snapshot!(plain(&table().lines(46, Duration::from_millis(2400))), @r"
        CALLER  ENI          STATE         AFTER  DET…
             1  eni-demo-01  calling      0.00 s
             2  eni-demo-02  ATTACHING    0.31 s  Att…
             3  eni-demo-03  ATTACHED     2.34 s  InU…
            12  eni-demo-12  REFUSED      0.42 s  ENI…
        1 attached, 1 refused, 2 in flight after 2.40…
        ");
    }

    #[test]
    fn colours_follow_the_state() {
        insta::assert_debug_snapshot!(table().lines(100, Duration::ZERO)[3], @r#""     3  eni-demo-03  \u{1b}[32mATTACHED \u{1b}[0m    2.34 s  InUse""#);
    }

    #[test]
    fn a_line_says_it_all() {
        insta::assert_snapshot!(plain(&table().callers().map(line).collect::<Vec<_>>()), @r"
        0.00 s  caller   1  eni-demo-01  calling
        0.31 s  caller   2  eni-demo-02  ATTACHING  Attaching
        2.34 s  caller   3  eni-demo-03  ATTACHED   InUse
        0.42 s  caller  12  eni-demo-12  REFUSED    ENI_LIMIT_EXCEEDED: it is full
        ");
    }
}
