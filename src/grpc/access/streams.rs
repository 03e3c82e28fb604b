//! The ends of streams whose callers lose their rights or credentials.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, Stream, unfold};

use super::{Access, FleetRights, StreamScope, about, audit, audit_untrusted, forbidden, now};
use crate::identity::Principal;
use crate::model::{Failure, Reason};
use crate::policy::{Action, PolicyStore};
use crate::telemetry::AuditLine;

/// Interval between checks of an open stream, besides those at each new policy.
const TICK: Duration = Duration::from_secs(60);
/// Maximum time before the expiry of the credentials at which a stream ends.
const RENEWAL: Duration = Duration::from_secs(10);

impl Access {
    /// The stream, which ends with a failure when its caller's credentials expire or its right is
    /// taken away.
    pub(in crate::grpc) fn guard<T: Send + 'static>(
        &self,
        scope: StreamScope,
        messages: impl Stream<Item = Result<T, Failure>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Failure>> {
        let principal = scope.principal.clone();
        self.guard_while(principal, "after_revision", messages, move |store| {
            let request = scope.request();
            if !store.trusts(&scope.principal) {
                audit_untrusted(about(&request));
                return Err(expired("after_revision"));
            }
            let decision = store.current().decide(&request);
            if decision.is_allowed() {
                return Ok(());
            }
            audit(&request, &decision);
            Err(forbidden(&request))
        })
    }

    /// The stream of all instances. It also ends when the policy changes, because the rights to
    /// each instance may differ then.
    pub(in crate::grpc) fn guard_fleet<T: Send + 'static>(
        &self,
        rights: &FleetRights,
        messages: impl Stream<Item = Result<T, Failure>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Failure>> {
        let (principal, policy) = (rights.principal.clone(), rights.policy.clone());
        let caller = principal.clone();
        self.guard_while(principal, "resume_token", messages, move |store| {
            if !store.trusts(&caller) {
                audit_untrusted(AuditLine {
                    caller: Some(&caller.name),
                    action: Some(Action::Watch.name()),
                    ..AuditLine::default()
                });
                return Err(expired("resume_token"));
            }
            let is_same = policy.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &store.current()));
            if is_same { Ok(()) } else { Err(policy_changed()) }
        })
    }

    /// The stream while `check` passes. `field` resumes it.
    fn guard_while<T: Send + 'static>(
        &self,
        principal: Arc<Principal>,
        field: &'static str,
        messages: impl Stream<Item = Result<T, Failure>> + Send + 'static,
        check: impl Fn(&PolicyStore) -> Result<(), Failure> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Failure>> {
        let Some(store) = self.policy.clone() else {
            return messages.boxed();
        };
        let end = Box::pin(end_of(store, principal, field, check));
        let guarded = unfold(Some((messages.boxed(), end)), |state| async move {
            let (mut messages, mut end) = state?;
            tokio::select! {
                biased;
                failure = &mut end => Some((Err(failure), None)),
                message = messages.next() => Some((message?, Some((messages, end)))),
            }
        });
        guarded.boxed()
    }
}

/// Resolves when the stream must end.
async fn end_of(
    store: Arc<PolicyStore>,
    principal: Arc<Principal>,
    field: &'static str,
    check: impl Fn(&PolicyStore) -> Result<(), Failure>,
) -> Failure {
    let ends = principal.expires.map(|expires| {
        let left = seconds(expires - now());
        expires - i64::try_from(RENEWAL.min(left / 10).as_secs()).unwrap_or_default()
    });
    let generations = store.generation();
    loop {
        let seen = *generations.borrow();
        if let Err(failure) = check(&store) {
            return failure;
        }
        let left = ends.map_or(TICK, |ends| seconds(ends - now()));
        if left.is_zero() {
            return expired(field);
        }
        tokio::select! {
            biased;
            // The sender lives as long as the store.
            _ = generations.wait_for(|generation| *generation != seen) => {}
            // The clock may be set meanwhile.
            () = tokio::time::sleep(left.min(TICK)) => {}
        }
    }
}

fn expired(field: &str) -> Failure {
    let why = format!(
        "the caller's credentials expire or are withdrawn; watch again with {field} and renewed ones"
    );
    Failure::new(Reason::StreamTooOld, why)
}

fn policy_changed() -> Failure {
    let why = "the gateway's policy changed; watch again with resume_token";
    Failure::new(Reason::StreamTooOld, why)
}

/// A number of seconds; none if it is below zero.
fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or_default())
}
