//! The RPCs: parse, admit, pass on, convert.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::access::{Access, StreamScope};
use super::attach_audit::AttachAudit;
use super::deadline::Deadline;
use super::edge::AnswerSize;
use super::parse::{List, ListScope};
use super::proto as pb;
use super::proto::attachment_service_server::AttachmentService as Rpcs;
use super::{convert, page, parse, trace};
use crate::admission::{Admission, Peer};
use crate::attach::{self, Attacher};
use crate::ens::Ens;
use crate::identity::Principal;
use crate::ledger::LedgerStore;
use crate::model::InstanceId;
use crate::policy::{AccessRequest, Action};
use crate::watch::fleet::{FleetFilter, FleetScope, ScopeDigest};
use crate::watch::{Hub, Listing, RECORDS_AT_ONCE, ReadCall, Scope};

/// The attachment service.
pub struct AttachmentService<L, E> {
    attacher: Arc<Attacher<L, E>>,
    hub: Arc<Hub<L, E>>,
    admission: Arc<Admission>,
    access: Arc<Access>,
}

impl<L: LedgerStore, E: Ens> AttachmentService<L, E> {
    /// A service over `attacher` and `hub`, for calls that `access` allows and `admission` admits.
    #[must_use]
    pub fn new(
        attacher: Arc<Attacher<L, E>>,
        hub: Arc<Hub<L, E>>,
        admission: Arc<Admission>,
        access: Arc<Access>,
    ) -> Self {
        Self { attacher, hub, admission, access }
    }

    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    pub(super) fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }
}

#[tonic::async_trait]
impl<L: LedgerStore, E: Ens> Rpcs for AttachmentService<L, E> {
    async fn attach_network_interface(
        &self,
        request: Request<pb::AttachNetworkInterfaceRequest>,
    ) -> Result<Response<pb::AttachNetworkInterfaceResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        // After a pause of the process, a request and its cancellation may be read together. The
        // cancellation shows after one yield, so no attach starts before it.
        tokio::task::yield_now().await;
        let principal = principal(&request);
        let parsed = parse::attach(request.get_ref())?;
        trace::about(&parsed.instance, Some(&parsed.eni));
        self.access.authorize(&AccessRequest {
            principal: &principal,
            action: Action::Attach,
            instance: &parsed.instance,
            eni: Some(&parsed.eni),
            validate_only: parsed.validate_only,
        })?;
        // A validation leaves no request id behind.
        let ids: Vec<_> = parsed.request_id.filter(|_| !parsed.validate_only).into_iter().collect();
        let _quota = self.access.count_attaches(&principal, 1, &parsed.instance, &ids)?;
        let validate_only = parsed.validate_only;
        let enis = std::slice::from_ref(&parsed.eni);
        let mut audit = AttachAudit::new(
            &principal.name,
            &parsed.instance,
            enis,
            parsed.request_id,
            validate_only,
        );
        let request = attach::Request {
            instance: parsed.instance,
            eni: parsed.eni,
            request_id: parsed.request_id,
            caller: principal.name.clone(),
            peer,
            deadline,
        };
        let admitted = self.admission.attaches(1, peer, &request.instance, deadline).await;
        let _permit = admitted.inspect_err(|why| audit.refuse(why))?;
        let response = if validate_only {
            let checks = self.attacher.validate(request).await?;
            pb::AttachNetworkInterfaceResponse { checks, ..Default::default() }
        } else {
            let answer = self.attacher.attach(request).await;
            audit.answer(answer.as_ref());
            let attachment = answer?;
            pb::AttachNetworkInterfaceResponse {
                ens_request_id: attachment.ens_request_id.clone(),
                attachment: Some((&attachment).into()),
                checks: Vec::new(),
            }
        };
        Ok(Response::new(response))
    }

    async fn batch_attach_network_interfaces(
        &self,
        request: Request<pb::BatchAttachNetworkInterfacesRequest>,
    ) -> Result<Response<pb::BatchAttachNetworkInterfacesResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        // As before a single attach.
        tokio::task::yield_now().await;
        let principal = principal(&request);
        let parse::AttachBatch { instance, enis, request_id, require_all, validate_only } =
            parse::attach_batch(request.get_ref())?;
        trace::about(&instance, None);
        for eni in &enis {
            self.access.authorize(&AccessRequest {
                principal: &principal,
                action: Action::Attach,
                instance: &instance,
                eni: Some(eni),
                validate_only,
            })?;
        }
        let caller = principal.name.clone();
        let batch = attach::BatchRequest { instance, enis, request_id, caller, peer, deadline };
        let ids: Vec<_> = if validate_only {
            Vec::new()
        } else {
            batch.requests().filter_map(|request| request.request_id).collect()
        };
        let number = batch.enis.len();
        let _quota = self.access.count_attaches(&principal, number, &batch.instance, &ids)?;
        let mut audit = AttachAudit::new(
            &batch.caller,
            &batch.instance,
            &batch.enis,
            request_id,
            validate_only,
        );
        let admitted = self.admission.attaches(number, peer, &batch.instance, deadline).await;
        let _permit = admitted.inspect_err(|why| audit.refuse(why))?;
        if require_all {
            let ensured = self.attacher.ensure_capacity(&batch).await;
            ensured.inspect_err(|why| audit.refuse(why))?;
        }
        let results = if validate_only {
            let validated = self.attacher.validate_batch(&batch).await;
            let results = batch.enis.iter().zip(validated);
            results.map(|(eni, checks)| convert::validated(eni, checks)).collect()
        } else {
            let answers = self.attacher.attach_batch(&batch).await;
            answers.iter().for_each(|answer| audit.answer(answer.as_ref()));
            let results = batch.enis.iter().zip(&answers);
            results.map(|(eni, answer)| convert::attach_result(eni, answer)).collect()
        };
        Ok(Response::new(pb::BatchAttachNetworkInterfacesResponse { results }))
    }

    type WatchAttachmentStream = BoxStream<'static, Result<pb::WatchAttachmentResponse, Status>>;

    async fn watch_attachment(
        &self,
        request: Request<pb::WatchAttachmentRequest>,
    ) -> Result<Response<Self::WatchAttachmentStream>, Status> {
        let (until, peer) = (Deadline::of(&request).stream(), peer(&request));
        let principal = principal(&request);
        let parsed = parse::watch(request.get_ref())?;
        trace::about(&parsed.instance, parsed.eni.as_ref());
        let shown =
            StreamScope { principal, instance: parsed.instance.clone(), eni: parsed.eni.clone() };
        self.access.authorize(&shown.request())?;
        let quota = self.access.count(&shown.principal, Action::Watch)?;
        let permit = self.admission.stream(peer, &parsed.instance).await?;
        let scope = Scope {
            instance: parsed.instance,
            eni: parsed.eni,
            after: parsed.after,
            follow: parsed.follow,
            until,
            peer,
        };
        let _opening = if self.hub.is_in_memory(&scope) {
            None
        } else {
            Some(self.admission.opening(peer).await?)
        };
        let messages = self.hub.watch(scope).await?;
        let messages = self.access.guard(shown, messages).map(move |event| {
            // The stream holds its permits until it ends.
            let _permits = (&permit, &quota);
            Ok(event?.into())
        });
        Ok(Response::new(messages.boxed()))
    }

    type WatchAttachmentsStream = BoxStream<'static, Result<pb::WatchAttachmentsResponse, Status>>;

    async fn watch_attachments(
        &self,
        request: Request<pb::WatchAttachmentsRequest>,
    ) -> Result<Response<Self::WatchAttachmentsStream>, Status> {
        let (until, peer) = (Deadline::of(&request).stream(), peer(&request));
        let principal = principal(&request);
        let parsed = parse::watch_fleet(request.get_ref())?;
        let rights = self.access.authorize_fleet(principal.clone(), Action::Watch)?;
        let quota = self.access.count(&principal, Action::Watch)?;
        let permit = self.admission.fleet_stream(peer).await?;
        let _opening = self.admission.opening(peer).await?;
        // In one form, so that their order in the request voids no token.
        let states: BTreeSet<_> =
            parsed.attachments.states.iter().map(|state| state.name()).collect();
        let parts = rights.basis.iter().map(String::as_str).chain([parsed.prefix.as_str()]);
        let scope = FleetScope {
            digest: ScopeDigest::of(parts.chain(states).map(str::as_bytes)),
            filter: FleetFilter {
                prefix: parsed.prefix.clone(),
                attachments: parsed.attachments.clone(),
                may_show: rights.may_show.clone(),
            },
            after: parsed.after,
            follow: parsed.follow,
            until,
        };
        let messages = self.hub.watch_fleet(scope).await?;
        let messages = self.access.guard_fleet(&rights, messages).map(move |event| {
            // The stream holds its permits until it ends.
            let _permits = (&permit, &quota);
            Ok(event?.into())
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn get_attachment(
        &self,
        request: Request<pb::GetAttachmentRequest>,
    ) -> Result<Response<pb::GetAttachmentResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        let (instance, eni) = parse::get(request.get_ref())?;
        trace::about(&instance, Some(&eni));
        let principal = principal(&request);
        self.access.authorize(&AccessRequest {
            principal: &principal,
            action: Action::Get,
            instance: &instance,
            eni: Some(&eni),
            validate_only: false,
        })?;
        let _quota = self.access.count(&principal, Action::Get)?;
        let _permit = self.admission.read(peer, &instance).await?;
        let attachment = self.hub.get(&instance, &eni, ReadCall { peer, deadline }).await?;
        Ok(Response::new(pb::GetAttachmentResponse { attachment: Some((&attachment).into()) }))
    }

    async fn list_attachments(
        &self,
        request: Request<pb::ListAttachmentsRequest>,
    ) -> Result<Response<pb::ListAttachmentsResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        let principal = principal(&request);
        let List { scope, attachments: wanted } = parse::list(request.get_ref())?;
        let (instance, page) = match scope {
            ListScope::Instance(instance, page) => (instance, page),
            ListScope::Fleet(from, size) => {
                let rights = self.access.authorize_fleet(principal.clone(), Action::List)?;
                let _quota = self.access.count(&principal, Action::List)?;
                let _permit = self.admission.batch(peer, 1).await?;
                let (prefix, may_show) = (String::new(), rights.may_show);
                let filter = FleetFilter { prefix, attachments: wanted, may_show };
                let page = self.hub.list_fleet(&filter, from, size, deadline).await?;
                return Ok(sized(pb::ListAttachmentsResponse {
                    attachments: page.attachments.iter().map(Into::into).collect(),
                    next_page_token: page.next.as_ref().map(page::fleet_token).unwrap_or_default(),
                    incomplete: page.incomplete,
                    observe_time: None,
                }));
            }
        };
        trace::about(&instance, None);
        self.access.authorize(&AccessRequest {
            principal: &principal,
            action: Action::List,
            instance: &instance,
            eni: None,
            validate_only: false,
        })?;
        let _quota = self.access.count(&principal, Action::List)?;
        let _permit = self.admission.read(peer, &instance).await?;
        let Listing { mut attachments, coverage } =
            self.hub.list(&instance, ReadCall { peer, deadline }).await?;
        attachments.retain(|attachment| wanted.has(attachment));
        let (attachments, next_page_token) = page.cut(&instance, attachments);
        Ok(sized(pb::ListAttachmentsResponse {
            attachments: attachments.iter().map(Into::into).collect(),
            next_page_token,
            observe_time: coverage.observed_at.map(convert::timestamp),
            incomplete: coverage.incomplete,
        }))
    }

    async fn get_instance_capacity(
        &self,
        request: Request<pb::GetInstanceCapacityRequest>,
    ) -> Result<Response<pb::GetInstanceCapacityResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        let (instance, max_age) = parse::capacity(request.get_ref())?;
        trace::about(&instance, None);
        let principal = principal(&request);
        self.access.authorize(&capacity_of(&principal, &instance))?;
        let _quota = self.access.count(&principal, Action::Capacity)?;
        let _permit = self.admission.read(peer, &instance).await?;
        let capacity = self.hub.capacity(&instance, max_age, ReadCall { peer, deadline }).await?;
        let instance_capacity = Some((&capacity).into());
        Ok(Response::new(pb::GetInstanceCapacityResponse { instance_capacity }))
    }

    async fn batch_get_instance_capacities(
        &self,
        request: Request<pb::BatchGetInstanceCapacitiesRequest>,
    ) -> Result<Response<pb::BatchGetInstanceCapacitiesResponse>, Status> {
        let (deadline, peer) = (Deadline::of(&request).unary(), peer(&request));
        let (instances, max_age) = parse::capacities(request.get_ref())?;
        let principal = principal(&request);
        for instance in &instances {
            self.access.authorize(&capacity_of(&principal, instance))?;
        }
        let _quota = self.access.count(&principal, Action::Capacity)?;
        let records = instances.len().min(RECORDS_AT_ONCE);
        let _permit = self.admission.batch(peer, records).await?;
        let found = self.hub.capacities(&instances, max_age, ReadCall { peer, deadline }).await;
        if let Some(Err(failure)) = found.first()
            && found.iter().all(Result::is_err)
        {
            return Err(failure.clone().into());
        }
        let of = |(instance, capacity): (_, &Result<_, _>)| match capacity {
            Ok(capacity) => pb::InstanceCapacity::from(capacity),
            Err(failure) => convert::unknown_capacity(instance, failure),
        };
        let instance_capacities = instances.iter().zip(&found).map(of).collect();
        Ok(sized(pb::BatchGetInstanceCapacitiesResponse { instance_capacities }))
    }
}

/// A response that may be large, with its size.
fn sized<M: prost::Message>(message: M) -> Response<M> {
    let size = AnswerSize(message.encoded_len());
    let mut response = Response::new(message);
    response.extensions_mut().insert(size);
    response
}

/// A call for the capacity of an instance, which is about all its ENIs.
fn capacity_of<'a>(principal: &'a Principal, instance: &'a InstanceId) -> AccessRequest<'a> {
    AccessRequest { principal, action: Action::Capacity, instance, eni: None, validate_only: false }
}

/// The peer of a request that passed the receive layer.
fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get().copied().unwrap_or(Peer::LOCAL)
}

/// The caller of a request that passed the edge. A policy allows an anonymous one nothing.
fn principal<T>(request: &Request<T>) -> Arc<Principal> {
    request.extensions().get().cloned().unwrap_or_else(|| Arc::new(Principal::anonymous()))
}
