//! Audit lines: which caller did what, and which was refused. One type writes all of them, so that
//! a field has the same name and place in each. `docs/audit.md` describes them.

use std::fmt;
use std::net::SocketAddr;

use super::context::in_trace;
use crate::model::{Caller, InstanceId, InterfaceId, Reason, RequestId, TraceContext, Uid};
use crate::names::AUDIT;

/// What an audit line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditEvent {
    /// A decision about a call, or about an open stream.
    Access,
    /// The answer to an attach.
    Attach,
    /// The end of an attempt, which may differ from the answer.
    AttachEnded,
    /// A connection that was refused by TLS, or closed because its certificate was withdrawn.
    Connection,
}

impl AuditEvent {
    /// The line's message.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Attach => "attach",
            Self::AttachEnded => "attach ended",
            Self::Connection => "connection",
        }
    }
}

/// One audit line. It leaves out what is `None`.
#[derive(Clone, Copy, Default)]
pub struct AuditLine<'a> {
    /// The caller.
    pub caller: Option<&'a Caller>,
    /// The address of the caller.
    pub peer: Option<SocketAddr>,
    /// The RPC, by its action in policies.
    pub action: Option<&'static str>,
    /// The instance.
    pub instance: Option<&'a InstanceId>,
    /// The ENI; `None` for all of the instance.
    pub eni: Option<&'a InterfaceId>,
    /// `Some(true)` for an attach that only checks.
    pub validate_only: Option<bool>,
    /// The caller's request id.
    pub request_id: Option<RequestId>,
    /// The attempt.
    pub uid: Option<Uid>,
    /// Whether the call is allowed.
    pub allowed: Option<bool>,
    /// The id of the rule that decided.
    pub rule: Option<&'a str>,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// The cause of a refusal, in words.
    pub cause: Option<&'a dyn fmt::Display>,
    /// The result of an attach: a reason, or `OK`.
    pub outcome: Option<&'static str>,
    /// ENS's RequestId.
    pub ens_request_id: Option<&'a str>,
}

impl AuditLine<'_> {
    /// Writes the line.
    pub fn write(&self, event: AuditEvent) {
        tracing::info!(
            target: AUDIT,
            caller = self.caller.map(tracing::field::display),
            identity = self.caller.map(Caller::source),
            peer = self.peer.map(tracing::field::display),
            action = self.action,
            instance = self.instance.map(tracing::field::display),
            eni = self.eni.map(tracing::field::display),
            validate_only = self.validate_only,
            request_id = self.request_id.map(tracing::field::display),
            uid = self.uid.map(tracing::field::display),
            decision = self.allowed.map(|allowed| if allowed { "allow" } else { "deny" }),
            rule = self.rule,
            reason = self.reason.map(Reason::name),
            cause = self.cause.map(tracing::field::display),
            outcome = self.outcome,
            ens_request_id = self.ens_request_id,
            "{}",
            event.name()
        );
    }

    /// Writes the line with the ids of `trace`, in place of those of the current span.
    pub fn write_in(&self, event: AuditEvent, trace: Option<&TraceContext>) {
        in_trace(trace, || self.write(event));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Takes the names of an event's fields.
    #[derive(Clone, Default)]
    struct Names(Arc<Mutex<Vec<&'static str>>>);

    impl<S: Subscriber> Layer<S> for Names {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let names = event.metadata().fields().iter().map(|field| field.name());
            self.0.lock().expect("no panic").extend(names.filter(|name| *name != "message"));
        }
    }

    /// The names in the first column of the tables of a chapter.
    fn documented(chapter: &str) -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.md");
        let page = std::fs::read_to_string(path).expect("the page");
        let (_, text) = page.split_once(&format!("## {chapter}\n")).expect("the chapter");
        let text = text.split("\n## ").next().unwrap_or_default();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
    }

    #[test]
    fn the_page_has_the_fields_in_their_order() {
        let names = Names::default();
        let subscriber = tracing_subscriber::registry().with(names.clone());
        tracing::subscriber::with_default(subscriber, || {
            AuditLine::default().write(AuditEvent::Access);
        });
        let mut expected = vec!["timestamp", "level", "target", "message"];
        expected.extend(names.0.lock().expect("no panic").iter());
        expected.extend(["trace_id", "span_id"]);
        assert_eq!(documented("Fields"), expected);
    }

    #[test]
    fn the_page_has_every_line() {
        use AuditEvent::{Access, Attach, AttachEnded, Connection};
        let lines = [Access, Attach, AttachEnded, Connection];
        assert_eq!(documented("Lines"), lines.map(AuditEvent::name));
    }
}
