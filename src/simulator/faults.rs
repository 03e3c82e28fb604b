//! Faults on demand, for the next calls that match.
//!
//! A fault applies after signature and rate limit, so that a test knows which call it affects.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::action::Action;
use super::duration;
use super::params::Params;
use super::refusal::Refusal;

/// A fault: its effect, the calls it matches and their number. In JSON, durations read `"250ms"`:
/// `{"action": "AttachNetworkInterface", "eni": "eni-0001", "effect": {"kind": "drop_after"}}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Only calls of this action.
    pub action: Option<Action>,
    /// Only calls that name this instance.
    pub instance: Option<String>,
    /// Only calls that name this ENI, alone or among others.
    pub eni: Option<String>,
    /// Matching calls that pass first (0).
    pub skip: u32,
    /// Number of matching calls that it then applies to (1).
    pub times: u32,
    /// Delay before anything else.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// Delay between the effect and the answer.
    #[serde(with = "duration")]
    pub delay_answer: Duration,
    /// The effect.
    pub effect: Effect,
}

/// The effect of a fault. "Takes effect" means that ENS's rules decide.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// Only the delays.
    #[default]
    None,
    /// The call is refused.
    Refuse {
        /// `Code`.
        code: String,
        /// HTTP status (400).
        #[serde(default = "bad_request")]
        status: u16,
        /// `Message`.
        #[serde(default)]
        message: String,
    },
    /// The call takes effect, but is answered with this error. A second delivery of the same
    /// request, or a wrong code, status or header, looks like this.
    RefuseApplied {
        /// `Code` (`InvalidOperation.InvalidEniStatus`).
        #[serde(default = "eni_status")]
        code: String,
        /// HTTP status (400).
        #[serde(default = "bad_request")]
        status: u16,
        /// `Message`.
        #[serde(default)]
        message: String,
        /// `x-acs-retry-after` (none).
        #[serde(default, with = "duration::option")]
        retry_after: Option<Duration>,
    },
    /// The call is refused with `Throttling.User`.
    Throttle {
        /// `x-acs-retry-after`.
        #[serde(default, with = "duration::option")]
        retry_after: Option<Duration>,
    },
    /// The connection is reset before the call takes effect.
    DropBefore,
    /// The call takes effect, then the connection is reset.
    DropAfter,
    /// The connection is reset, and the call takes effect `after` later. Attach only; other calls
    /// take no effect.
    ApplyLate {
        /// The delay.
        #[serde(with = "duration")]
        after: Duration,
    },
    /// The call takes effect and is answered. A copy arrives `after` later, and ENS's rules decide
    /// about it. Attach only; other calls are not repeated.
    Replay {
        /// The delay.
        #[serde(with = "duration")]
        after: Duration,
    },
    /// The call takes effect, and is answered with `ens.interface.error`.
    Mask,
    /// A page of HTML, as from a load balancer.
    Html {
        /// HTTP status (502).
        #[serde(default = "bad_gateway")]
        status: u16,
        /// Whether the call takes effect first.
        #[serde(default)]
        apply: bool,
    },
    /// HTTP 200 with a body that is not JSON.
    NotJson {
        /// Whether the call takes effect first.
        #[serde(default)]
        apply: bool,
    },
    /// The call takes effect; its answer is cut in the body.
    Truncated,
    /// The attach is accepted, and the ENI is `Available` again after the attach time.
    AcceptThenFail,
    /// The attach is accepted without effect: the ENI stays `Available`.
    AcceptThenForget,
    /// The attach is accepted, and takes this long.
    AttachTime {
        /// From accepted to `InUse`.
        #[serde(with = "duration")]
        takes: Duration,
    },
}

impl Default for Fault {
    /// A fault without effect for one call of any kind.
    fn default() -> Self {
        Self {
            action: None,
            instance: None,
            eni: None,
            skip: 0,
            times: 1,
            delay: Duration::ZERO,
            delay_answer: Duration::ZERO,
            effect: Effect::None,
        }
    }
}

impl Fault {
    /// A fault for the next call of this action.
    #[must_use]
    pub fn next(action: Action, effect: Effect) -> Self {
        Self { action: Some(action), effect, ..Self::default() }
    }

    /// Limits it to calls that name this instance.
    #[must_use]
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// Limits it to calls that name this ENI.
    #[must_use]
    pub fn eni(mut self, id: impl Into<String>) -> Self {
        self.eni = Some(id.into());
        self
    }

    /// Applies it to this many calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Adds a delay.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a delay of the answer.
    #[must_use]
    pub fn delay_answer(mut self, delay: Duration) -> Self {
        self.delay_answer = delay;
        self
    }

    /// Reads a fault, and returns it if it can have an effect.
    ///
    /// # Errors
    /// It is no fault, has an unknown field, or would never have an effect.
    pub(super) fn read(value: Value) -> Result<Self, String> {
        let effect = value.get("effect").and_then(Value::as_object).cloned().unwrap_or_default();
        let fault: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        // serde accepts any field beside an effect without fields of its own.
        let known = serde_json::to_value(&fault.effect).map_err(|error| error.to_string())?;
        match effect.keys().find(|key| known.get(key).is_none()) {
            Some(key) => Err(format!("the effect has no field `{key}`")),
            None => fault.checked(),
        }
    }

    /// Returns the fault if it can have an effect.
    ///
    /// # Errors
    /// Why it never would.
    fn checked(self) -> Result<Self, String> {
        let only_attach = match &self.effect {
            Effect::ApplyLate { .. } => Some("apply_late"),
            Effect::Replay { .. } => Some("replay"),
            Effect::AcceptThenFail => Some("accept_then_fail"),
            Effect::AcceptThenForget => Some("accept_then_forget"),
            Effect::AttachTime { .. } => Some("attach_time"),
            _ => None,
        };
        let other_action = self.action.filter(|action| *action != Action::AttachNetworkInterface);
        let status = match &self.effect {
            Effect::Refuse { status, .. }
            | Effect::RefuseApplied { status, .. }
            | Effect::Html { status, .. } => *status,
            _ => bad_request(),
        };
        if self.times == 0 {
            Err("times is 0, so the fault would never apply".to_owned())
        } else if self.effect == Effect::None && (self.delay + self.delay_answer).is_zero() {
            Err("without an effect the fault needs delay or delay_answer".to_owned())
        } else if let (Some(effect), Some(action)) = (only_attach, other_action) {
            let action = action.name();
            Err(format!("{effect} has no effect on {action}: it is for AttachNetworkInterface"))
        } else if !(200..=599).contains(&status) {
            Err(format!("{status} is no HTTP status of an answer: use 200 to 599"))
        } else {
            Ok(self)
        }
    }

    fn matches(&self, action: Action, params: &Params) -> bool {
        self.action.is_none_or(|wanted| wanted == action)
            && self.instance.as_deref().is_none_or(|id| params.get("InstanceId") == Some(id))
            && self.eni.as_ref().is_none_or(|id| params.enis().contains(id))
    }
}

/// The queued faults, in order.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn waiting(&self) -> &[Fault] {
        &self.0
    }

    /// Takes the fault for this call: the first that matches and skips none.
    pub(super) fn strike(&mut self, action: Action, params: &Params) -> Option<Fault> {
        let index = self.0.iter_mut().position(|fault| {
            let matches = fault.matches(action, params);
            let skips = matches && fault.skip > 0;
            fault.skip -= u32::from(skips);
            matches && !skips
        })?;
        let fault = &mut self.0[index];
        fault.times = fault.times.saturating_sub(1);
        let struck = fault.clone();
        if fault.times == 0 {
            self.0.remove(index);
        }
        Some(struck)
    }
}

fn eni_status() -> String {
    Refusal::ENI_STATUS.code.into_owned()
}

const fn bad_request() -> u16 {
    400
}

const fn bad_gateway() -> u16 {
    502
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_affects_matching_calls_after_its_skips_as_often_as_set() {
        let mut faults = Faults::default();
        faults.push(Fault {
            skip: 1,
            ..Fault::next(Action::AttachNetworkInterface, Effect::Mask).eni("eni-1").times(2)
        });
        let attach = Params::from_iter([("InstanceId", "i-1"), ("NetworkInterfaceId", "eni-1")]);
        let other = Params::from_iter([("InstanceId", "i-1"), ("NetworkInterfaceId", "eni-2")]);
        let mut applies = |action, params: &Params| faults.strike(action, params).is_some();
        assert!(!applies(Action::AttachNetworkInterface, &other));
        assert!(!applies(Action::DetachNetworkInterface, &attach));
        let hits: Vec<_> =
            (0..4).map(|_| applies(Action::AttachNetworkInterface, &attach)).collect();
        assert_eq!(hits, [false, true, true, false]);
    }

    #[test]
    fn a_fault_without_effect_is_refused() {
        let late = Effect::ApplyLate { after: Duration::from_secs(1) };
        for (fault, part) in [
            (Fault::default(), "needs delay"),
            (Fault::next(Action::AttachNetworkInterface, Effect::Mask).times(0), "times is 0"),
            (Fault::next(Action::DescribeInstances, late.clone()), "apply_late has no effect on"),
            (Fault { effect: Effect::Html { status: 42, apply: false }, ..Fault::default() }, "42"),
        ] {
            let problem = fault.checked().unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        let longest = json!({"delay": "365days", "delay_answer": "365days"});
        assert!(Fault::read(longest).is_ok());
        for absurd in [
            json!({"delay": "500years"}),
            json!({"delay_answer": "18446744073709551615s"}),
            json!({"effect": {"kind": "throttle", "retry_after": "366days"}}),
            json!({"effect": {"kind": "apply_late", "after": "18446744073709551615s"}}),
            json!({"effect": {"kind": "replay", "after": "500years"}}),
            json!({"effect": {"kind": "attach_time", "takes": "500years"}}),
        ] {
            let problem = Fault::read(absurd.clone()).unwrap_err();
            assert!(problem.contains("is above 365 days"), "{absurd}: {problem}");
        }
        let typo = json!({"effect": {"kind": "drop_after", "after": "2s"}});
        assert_eq!(Fault::read(typo).unwrap_err(), "the effect has no field `after`");
        assert!(Fault::read(json!({"effect": {"kind": "drop_after"}})).is_ok());
        assert!(Fault::default().delay(Duration::from_secs(1)).checked().is_ok());
        assert!(Fault { effect: late, ..Fault::default() }.checked().is_ok());
    }

    #[test]
    fn reads_the_form_of_the_control_endpoint() {
        let text = r#"{"action": "AttachNetworkInterface", "delay": "250ms", "effect": {"kind": "apply_late", "after": "2s"}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        assert_eq!(fault.delay, Duration::from_millis(250));
        assert_eq!(fault.effect, Effect::ApplyLate { after: Duration::from_secs(2) });
        assert_eq!(fault.times, 1);
        let text = r#"{"effect": {"kind": "refuse_applied", "status": 429, "retry_after": "1s"}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let expected = Effect::RefuseApplied {
            code: "InvalidOperation.InvalidEniStatus".to_owned(),
            status: 429,
            message: String::new(),
            retry_after: Some(Duration::from_secs(1)),
        };
        assert_eq!(fault.effect, expected);
        for bad in
            [r#"{"effect": {"kind": "explode"}}"#, r#"{"eniId": "x"}"#, r#"{"action": "Attach"}"#]
        {
            assert!(serde_json::from_str::<Fault>(bad).is_err(), "{bad}");
        }
    }
}
