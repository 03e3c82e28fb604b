//! The four RPCs: read the request, be admitted, hand it on, say it in the API's words.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::deadline::Deadline;
use super::proto as pb;
use super::proto::attachment_service_server::AttachmentService as Rpcs;
use super::{convert, parse, trace};
use crate::admission::{Admission, AdmissionPermit};
use crate::attach::{self, Attacher};
use crate::ens::Ens;
use crate::ledger::LedgerStore;
use crate::model::{Caller, Failure};
use crate::watch::{Event, Hub, Listing, Scope};

/// The service.
pub struct AttachmentService<L, E> {
    attacher: Arc<Attacher<L, E>>,
    hub: Arc<Hub<L, E>>,
    admission: Arc<Admission>,
}

impl<L: LedgerStore, E: Ens> AttachmentService<L, E> {
    /// Over these; `admission` is the gate that the server's stop closes.
    #[must_use]
    pub fn new(attacher: Arc<Attacher<L, E>>, hub: Arc<Hub<L, E>>, admission: Arc<Admission>) -> Self {
        Self {
            attacher,
            hub,
            admission,
        }
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
        let deadline = Deadline::of(&request).unary();
        // Where this process stood still the end of a call may have been read with its beginning: it shows after the first poll, and then
        // nothing must have begun.
        tokio::task::yield_now().await;
        let asked = parse::attach(request.get_ref())?;
        trace::about(&asked.instance, Some(&asked.eni));
        let _inside = self.admission.attach(&asked.instance)?;
        let validate_only = asked.validate_only;
        let request = attach::Request {
            instance: asked.instance,
            eni: asked.eni,
            request_id: asked.request_id,
            caller: Caller::anonymous(),
            deadline,
        };
        let response = if validate_only {
            let checks = self.attacher.validate(request).await?;
            pb::AttachNetworkInterfaceResponse {
                checks,
                ..Default::default()
            }
        } else {
            let attachment = self.attacher.attach(request).await?;
            pb::AttachNetworkInterfaceResponse {
                ens_request_id: attachment.ens_request_id.clone(),
                attachment: Some((&attachment).into()),
                checks: Vec::new(),
            }
        };
        Ok(Response::new(response))
    }

    type WatchAttachmentStream = BoxStream<'static, Result<pb::WatchAttachmentResponse, Status>>;

    async fn watch_attachment(
        &self,
        request: Request<pb::WatchAttachmentRequest>,
    ) -> Result<Response<Self::WatchAttachmentStream>, Status> {
        let until = Deadline::of(&request).stream();
        let asked = parse::watch(request.get_ref())?;
        trace::about(&asked.instance, asked.eni.as_ref());
        let place = self.admission.stream(&asked.instance)?;
        let _opening = self.admission.opening()?;
        let scope = Scope {
            instance: asked.instance,
            eni: asked.eni,
            after: asked.after,
            follow: asked.follow,
            until,
        };
        let events = self.hub.watch(scope).await?;
        Ok(Response::new(answer(events, place, self.admission.drained()).boxed()))
    }

    async fn get_attachment(
        &self,
        request: Request<pb::GetAttachmentRequest>,
    ) -> Result<Response<pb::GetAttachmentResponse>, Status> {
        let deadline = Deadline::of(&request).unary();
        let (instance, eni) = parse::get(request.get_ref())?;
        trace::about(&instance, Some(&eni));
        let _inside = self.admission.read(&instance)?;
        let attachment = self.hub.get(&instance, &eni, deadline).await?;
        Ok(Response::new(pb::GetAttachmentResponse {
            attachment: Some((&attachment).into()),
        }))
    }

    async fn list_attachments(
        &self,
        request: Request<pb::ListAttachmentsRequest>,
    ) -> Result<Response<pb::ListAttachmentsResponse>, Status> {
        let deadline = Deadline::of(&request).unary();
        let (instance, page) = parse::list(request.get_ref())?;
        trace::about(&instance, None);
        let _inside = self.admission.read(&instance)?;
        let Listing { attachments, coverage } = self.hub.list(&instance, deadline).await?;
        let (attachments, next_page_token) = page.cut(&instance, attachments);
        Ok(Response::new(pb::ListAttachmentsResponse {
            attachments: attachments.iter().map(Into::into).collect(),
            next_page_token,
            observe_time: coverage.observed_at.map(convert::timestamp),
            incomplete: coverage.incomplete,
        }))
    }
}

/// The stream that a watcher gets: it holds its place while it lives, ends with the first failure, and with `DRAINING` when the
/// gate closes, for an open stream would hold up a graceful stop for ever.
fn answer(
    events: impl Stream<Item = Result<Event, Failure>> + Send + 'static,
    place: AdmissionPermit,
    drained: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<pb::WatchAttachmentResponse, Status>> + Send + 'static {
    async_stream::try_stream! {
        let _place = place;
        tokio::pin!(events, drained);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut drained => Some(Err(Admission::draining_failure())),
                event = events.next() => event,
            };
            match next {
                Some(event) => yield event?.into(),
                None => break,
            }
        }
    }
}
