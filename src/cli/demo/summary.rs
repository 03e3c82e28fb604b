//! The result of the demo: the callers' answers, ENS's journal, and whether both keep the
//! guarantees.

use std::collections::BTreeMap;

use super::{CallerPhase, StatusTable};
use crate::cli::style::{BAD, GOOD, HEAD, paint};
use crate::model::{InstanceId, Reason, State};

/// The simulator's own record, independent of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalSummary {
    /// Number of calls by action.
    pub calls: BTreeMap<String, u64>,
    /// Each instance's ENIs.
    pub instances: BTreeMap<InstanceId, OccupiedSlots>,
}

/// The ENIs of an instance, without the primary one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OccupiedSlots {
    /// At the end.
    pub now: usize,
    /// The maximum.
    pub most: usize,
    /// Maximum number of concurrent Attach calls.
    pub attaches_at_once: u64,
}

/// The result of the demo.
#[derive(Debug, Clone)]
pub struct Summary {
    callers: usize,
    slots: usize,
    attached: usize,
    /// Refusals by reason.
    refused: BTreeMap<Reason, usize>,
    journal: JournalSummary,
}

impl Summary {
    /// The result from the callers' answers and ENS's journal, for an instance with this many
    /// `slots`.
    #[must_use]
    pub fn new(table: &StatusTable, slots: usize, journal: JournalSummary) -> Self {
        let mut summary =
            Self { callers: 0, slots, attached: 0, refused: BTreeMap::new(), journal };
        for event in table.callers() {
            summary.callers += 1;
            match event.phase {
                CallerPhase::State(State::Attached) => summary.attached += 1,
                CallerPhase::Refused(reason) => *summary.refused.entry(reason).or_default() += 1,
                CallerPhase::Calling | CallerPhase::Broken | CallerPhase::State(_) => {}
            }
        }
        summary
    }

    /// Broken guarantees.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let expected = self.callers.min(self.slots);
        let full = self.refused.get(&Reason::EniLimitExceeded).copied().unwrap_or_default();
        let held: usize = self.journal.instances.values().map(|held| held.now).sum();
        let mut faults = Vec::new();
        if self.attached != expected {
            faults
                .push(format!("{} callers received ATTACHED, expected {expected}", self.attached));
        }
        if full != self.callers - expected {
            let should = self.callers - expected;
            faults.push(format!(
                "{full} callers were refused with {}, expected {should}",
                Reason::EniLimitExceeded
            ));
        }
        if held != self.attached {
            faults.push(format!(
                "ENS has {held} ENIs attached, and {} callers received ATTACHED",
                self.attached
            ));
        }
        for (instance, held) in &self.journal.instances {
            let (most, slots, at_once) = (held.most, self.slots, held.attaches_at_once);
            if most > slots {
                faults.push(format!("{instance} had {most} ENIs, and has {slots} slots"));
            }
            if at_once > 1 {
                faults.push(format!(
                    "{at_once} Attach calls for {instance} were in flight at the same time"
                ));
            }
        }
        faults
    }

    /// The result as text.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new(), paint(HEAD, "Answers to the callers")];
        lines.push(format!("{:>6}  attached", self.attached));
        lines.extend(
            self.refused.iter().map(|(reason, count)| format!("{count:>6}  refused: {reason}")),
        );
        lines.push(paint(HEAD, "Journal of ENS"));
        lines.extend(
            self.journal.calls.iter().map(|(action, count)| format!("{count:>6}  {action}")),
        );
        for (instance, held) in &self.journal.instances {
            let OccupiedSlots { now, most, attaches_at_once } = held;
            lines.push(format!(
                "{now:>6}  ENIs on {instance} now, at most {most}, of {} slots",
                self.slots
            ));
            lines.push(format!(
                "{attaches_at_once:>6}  Attach call for {instance} at a time, at most"
            ));
        }
        let faults = self.faults();
        lines.extend(faults.iter().map(|fault| paint(BAD, &format!("wrong: {fault}"))));
        if faults.is_empty() {
            let refused = self.callers - self.attached;
            let verdict = format!(
                "All guarantees held: {} attached, {refused} refused, never above {}.",
                self.attached, self.slots
            );
            lines.push(paint(GOOD, &verdict));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::demo::DemoEvent;

    fn summary(attached: usize, refused: usize, most: usize) -> Summary {
        let mut table = StatusTable::default();
        for caller in 1..=attached + refused {
            let phase = if caller <= attached {
                CallerPhase::State(State::Attached)
            } else {
                CallerPhase::Refused(Reason::EniLimitExceeded)
            };
            let eni = format!("eni-{caller}").parse().unwrap();
            table.take(DemoEvent { caller, eni, phase, at: Duration::ZERO, detail: String::new() });
        }
        let calls = [
            ("AttachNetworkInterface".to_owned(), 10),
            ("DescribeNetworkInterfaces".to_owned(), 14),
        ];
        let instances = [(
            "i-demo".parse().unwrap(),
            OccupiedSlots { now: attached, most, attaches_at_once: 1 },
        )];
        Summary::new(
            &table,
            10,
            JournalSummary { calls: calls.into(), instances: instances.into() },
        )
    }

    fn plain(summary: &Summary) -> String {
        anstream::adapter::strip_str(&summary.lines().join("\n")).to_string()
    }

    #[test]
    fn the_promise_kept() {
        insta::assert_snapshot!(plain(&summary(10, 2, 10)), @r"

        Answers to the callers
            10  attached
             2  refused: ENI_LIMIT_EXCEEDED
        Journal of ENS
            10  AttachNetworkInterface
            14  DescribeNetworkInterfaces
            10  ENIs on i-demo now, at most 10, of 10 slots
             1  Attach call for i-demo at a time, at most
        All guarantees held: 10 attached, 2 refused, never above 10.
        ");
    }

    #[test]
    fn the_promise_broken() {
        let broken = summary(11, 1, 11);
        assert_eq!(broken.faults().len(), 3);
        insta::assert_snapshot!(plain(&broken), @r"

        Answers to the callers
            11  attached
             1  refused: ENI_LIMIT_EXCEEDED
        Journal of ENS
            10  AttachNetworkInterface
            14  DescribeNetworkInterfaces
            11  ENIs on i-demo now, at most 11, of 10 slots
             1  Attach call for i-demo at a time, at most
        wrong: 11 callers received ATTACHED, expected 10
        wrong: 1 callers were refused with ENI_LIMIT_EXCEEDED, expected 2
        wrong: i-demo had 11 ENIs, and has 10 slots
        ");
    }

    #[test]
    fn fewer_callers_than_slots_are_all_attached() {
        assert!(summary(7, 0, 7).faults().is_empty());
    }
}
