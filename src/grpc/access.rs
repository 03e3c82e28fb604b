//! The check of each call before anything else: who calls, and whether the policy lets them.
//!
//! Without a policy each caller that the transport admits may make each call. Its name still stands
//! in audit lines, and its request ids are its own.

mod streams;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, Entry};
use http::{HeaderValue, Request};
use tonic::body::Body;

use super::method::Method;
use super::receive::is_diagnostic;
use crate::admission::{QuotaPermit, Quotas, Use};
use crate::identity::{IdentityError, Principal, certificate};
use crate::listen::ConnectionRef;
use crate::model::{Caller, Failure, InstanceId, InterfaceId, Reason, RequestId};
use crate::policy::{AccessRequest, Action, Decision, Policy, PolicyStore, Quota};
use crate::telemetry::{AuditEvent, AuditLine};
use crate::watch::fleet::MayShow;

/// The rules of access to the service.
#[derive(Debug, Default)]
pub struct Access {
    /// `None`: each caller may make each call.
    policy: Option<Arc<PolicyStore>>,
    open_reflection: bool,
    quotas: Quotas,
}

/// What a call shows of its caller.
#[derive(Debug)]
pub(super) struct CallerCredentials {
    method: Option<Method>,
    is_diagnostic: bool,
    is_reflection: bool,
    connection: Option<ConnectionRef>,
    authorization: Vec<HeaderValue>,
}

impl CallerCredentials {
    /// Takes the credentials out of a request, so that nothing behind can log them.
    pub(super) fn take(request: &mut Request<Body>) -> Self {
        let path = request.uri().path();
        let method = Method::of_path(path);
        let (is_diagnostic, is_reflection) =
            (is_diagnostic(path), path.starts_with("/grpc.reflection."));
        let connection = request.extensions().get().cloned();
        let authorization: Vec<_> = match request.headers_mut().entry(AUTHORIZATION) {
            Entry::Occupied(values) => values.remove_entry_mult().1.collect(),
            Entry::Vacant(_) => Vec::new(),
        };
        let authorization = authorization.into_iter().map(hidden).collect();
        Self { method, is_diagnostic, is_reflection, connection, authorization }
    }
}

/// What a stream shows, and to whom.
#[derive(Debug, Clone)]
pub(super) struct StreamScope {
    pub(super) principal: Arc<Principal>,
    pub(super) instance: InstanceId,
    pub(super) eni: Option<InterfaceId>,
}

impl StreamScope {
    /// The call that opens the stream.
    pub(super) fn request(&self) -> AccessRequest<'_> {
        AccessRequest {
            principal: &self.principal,
            action: Action::Watch,
            instance: &self.instance,
            eni: self.eni.as_ref(),
            validate_only: false,
        }
    }
}

/// A caller's rights to all instances, by the policy at one time.
pub(super) struct FleetRights {
    principal: Arc<Principal>,
    /// The instances that the caller may see.
    pub(super) may_show: MayShow,
    /// What decides the rights: all of the caller that rules match, and the policy's text.
    pub(super) basis: [String; 2],
    /// The policy; `None` without one.
    policy: Option<Arc<Policy>>,
}

impl Access {
    /// Access by a policy. Callers without an identity may use health, and with `open_reflection`
    /// also reflection.
    #[must_use]
    pub fn by(policy: Arc<PolicyStore>, open_reflection: bool) -> Self {
        Self { policy: Some(policy), open_reflection, quotas: Quotas::default() }
    }

    /// The principal of a call. Without a policy, a caller that cannot be identified is anonymous.
    ///
    /// # Errors
    /// `CALLER_UNAUTHENTICATED`.
    pub(super) async fn identify(
        &self,
        caller: CallerCredentials,
    ) -> Result<Arc<Principal>, Failure> {
        if caller.is_diagnostic && !(caller.is_reflection && self.guards_reflection()) {
            return Ok(Arc::new(Principal::anonymous()));
        }
        match self.principal(&caller).await {
            Ok(principal) => Ok(principal),
            Err(_) if self.policy.is_none() => Ok(Arc::new(Principal::anonymous())),
            Err(error) => {
                audit_unidentified(&caller, &error);
                Err(unauthenticated(&error))
            }
        }
    }

    const fn guards_reflection(&self) -> bool {
        self.policy.is_some() && !self.open_reflection
    }

    /// A token decides, where tokens are used and the call has one. So one call has one identity.
    async fn principal(&self, caller: &CallerCredentials) -> Result<Arc<Principal>, IdentityError> {
        let tokens = self.policy.as_ref().map(|store| store.tokens());
        if let Some(tokens) = tokens.filter(|tokens| tokens.are_used())
            && !caller.authorization.is_empty()
        {
            return tokens.principal(bearer(&caller.authorization)?).await;
        }
        let connection = caller.connection.as_ref();
        let certificate = connection.and_then(|connection| connection.certificates().first());
        let certificate = certificate.ok_or(IdentityError::Missing)?;
        let policy = self.policy.as_ref().map(|store| store.current());
        let trust_domains = policy.as_ref().map(|policy| policy.trust_domains());
        let principal = certificate::principal(certificate, trust_domains)?;
        if principal.has_expired(now()) {
            return Err(IdentityError::Certificate("has expired"));
        }
        Ok(Arc::new(principal))
    }

    /// Checks that the policy allows a call.
    ///
    /// # Errors
    /// `CALLER_FORBIDDEN`.
    pub(super) fn authorize(&self, request: &AccessRequest<'_>) -> Result<(), Failure> {
        let Some(store) = &self.policy else {
            return Ok(());
        };
        let decision = store.current().decide(request);
        audit(request, &decision);
        if decision.is_allowed() { Ok(()) } else { Err(forbidden(request)) }
    }

    /// Checks that the policy allows a call about all instances, for some of them.
    ///
    /// # Errors
    /// `CALLER_FORBIDDEN`.
    pub(super) fn authorize_fleet(
        &self,
        principal: Arc<Principal>,
        action: Action,
    ) -> Result<FleetRights, Failure> {
        let caller = described(&principal);
        let Some(store) = &self.policy else {
            let (may_show, basis) = (Arc::new(|_: &InstanceId| true), [caller, String::new()]);
            return Ok(FleetRights { principal, may_show, basis, policy: None });
        };
        let (policy, text) = store.with_text();
        let decision = policy.decide_fleet(&principal, action);
        AuditLine {
            caller: Some(&principal.name),
            action: Some(action.name()),
            rule: decision.rule(),
            allowed: Some(decision.is_allowed()),
            reason: (!decision.is_allowed()).then_some(Reason::CallerForbidden),
            ..AuditLine::default()
        }
        .write(AuditEvent::Access);
        if !decision.is_allowed() {
            return Err(forbidden_by_policy(&principal, action));
        }
        let (of, decides) = (principal.clone(), policy.clone());
        let may_show = move |instance: &InstanceId| {
            let eni = None;
            let request =
                AccessRequest { principal: &of, action, instance, eni, validate_only: false };
            decides.decide(&request).is_allowed()
        };
        let (may_show, basis) = (Arc::new(may_show), [caller, text]);
        Ok(FleetRights { principal, may_show, basis, policy: Some(policy) })
    }

    /// Counts a read or a watch against the quota of its caller, if it has one. The permit lasts as
    /// long as what the call uses.
    ///
    /// # Errors
    /// `CALLER_QUOTA_EXCEEDED`.
    pub(super) fn count(
        &self,
        principal: &Principal,
        action: Action,
    ) -> Result<Option<QuotaPermit>, Failure> {
        let of = match action {
            Action::Attach => Use::Attaches(1),
            Action::Watch => Use::Stream,
            Action::Get | Action::List | Action::Capacity => Use::Read,
        };
        self.count_use(principal, action, of, |_, _| Ok(()))
    }

    /// As [`Access::count`], for this many attaches to the instance, with these request ids.
    pub(super) fn count_attaches(
        &self,
        principal: &Principal,
        number: usize,
        instance: &InstanceId,
        ids: &[RequestId],
    ) -> Result<Option<QuotaPermit>, Failure> {
        let attaches = Use::Attaches(number);
        self.count_use(principal, Action::Attach, attaches, |permit, quota| {
            self.quotas.enter_request_ids(permit, quota, instance, ids)
        })
    }

    fn count_use(
        &self,
        principal: &Principal,
        action: Action,
        of: Use,
        count_more: impl FnOnce(&QuotaPermit, &Quota) -> Result<(), Failure>,
    ) -> Result<Option<QuotaPermit>, Failure> {
        let Some(store) = &self.policy else {
            return Ok(None);
        };
        let (policy, caller) = (store.current(), &principal.name);
        let Some(quota) = policy.quota(caller) else {
            return Ok(None);
        };
        let counted = self.quotas.enter(caller, quota, of);
        let counted = counted.and_then(|permit| count_more(&permit, quota).map(|()| permit));
        let counted = counted.inspect_err(|failure| audit_refused(caller, action, failure));
        counted.map(Some)
    }
}

/// All of a caller that the conditions of rules match, in one form.
fn described(principal: &Principal) -> String {
    let Principal { name, kind, issuer, namespace, groups, .. } = principal;
    let groups: BTreeSet<_> = groups.iter().collect();
    format!("{:?}", (name, kind, issuer, namespace, groups))
}

/// Writes the audit line of a decision.
fn audit(request: &AccessRequest<'_>, decision: &Decision) {
    AuditLine {
        rule: decision.rule(),
        allowed: Some(decision.is_allowed()),
        reason: (!decision.is_allowed()).then_some(Reason::CallerForbidden),
        ..about(request)
    }
    .write(AuditEvent::Access);
}

/// Writes the audit line of an open stream whose caller's key or trust domain was withdrawn.
fn audit_untrusted(stream: AuditLine<'_>) {
    AuditLine {
        allowed: Some(false),
        reason: Some(Reason::CallerUnauthenticated),
        cause: Some(&"the key or the trust domain behind its credentials was withdrawn"),
        ..stream
    }
    .write(AuditEvent::Access);
}

/// The audit line of a call, without a decision.
fn about<'a>(request: &AccessRequest<'a>) -> AuditLine<'a> {
    AuditLine {
        caller: Some(&request.principal.name),
        action: Some(request.action.name()),
        instance: Some(request.instance),
        eni: request.eni,
        validate_only: request.validate_only.then_some(true),
        ..AuditLine::default()
    }
}

/// Writes the audit line of a call beyond its caller's quota.
fn audit_refused(caller: &Caller, action: Action, failure: &Failure) {
    AuditLine {
        caller: Some(caller),
        action: Some(action.name()),
        allowed: Some(false),
        reason: Some(failure.reason),
        cause: Some(&failure.message),
        ..AuditLine::default()
    }
    .write(AuditEvent::Access);
}

/// Writes the audit line of a call without an identity.
fn audit_unidentified(caller: &CallerCredentials, error: &IdentityError) {
    AuditLine {
        caller: Some(&Caller::anonymous()),
        peer: caller.connection.as_ref().map(|connection| connection.peer()),
        action: caller.method.map(|method| method.action().name()),
        allowed: Some(false),
        reason: Some(Reason::CallerUnauthenticated),
        cause: Some(error),
        ..AuditLine::default()
    }
    .write(AuditEvent::Access);
}

/// The value, which `Debug` does not show.
fn hidden(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// The token in the values of `authorization`.
fn bearer(values: &[HeaderValue]) -> Result<&str, IdentityError> {
    let [value] = values else {
        return Err(IdentityError::Token("is one of several in the call"));
    };
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.map(|(_, token)| token).ok_or(IdentityError::Token("is not of the form `Bearer TOKEN`"))
}

fn unauthenticated(error: &IdentityError) -> Failure {
    let why = format!(
        "the caller is not identified: {error}; use the credentials that the gateway's policy knows"
    );
    Failure::new(Reason::CallerUnauthenticated, why)
}

fn forbidden(request: &AccessRequest<'_>) -> Failure {
    let AccessRequest { principal, action, instance, eni, .. } = request;
    let failure = forbidden_by_policy(principal, *action);
    match eni {
        Some(eni) => failure.about(instance, eni),
        None => failure.with("instanceId", instance),
    }
}

fn forbidden_by_policy(principal: &Principal, action: Action) -> Failure {
    let why = format!(
        "the policy does not let {} {} here; ask the gateway's operators for the right",
        principal.name,
        action.name()
    );
    Failure::new(Reason::CallerForbidden, why)
}

/// The time now, as a Unix time.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
