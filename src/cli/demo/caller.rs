//! One caller: a client with its own connection that attaches its ENI and watches it to its end.

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::env::INSTANCE;
use super::{CallerPhase, DemoEvent};
use crate::cli::client::{Client, Options};
use crate::cli::error::Error;
use crate::cli::follow::Follow;
use crate::cli::refusal::Refusal;
use crate::grpc::proto::attachment::State as ProtoState;
use crate::grpc::proto::{AttachNetworkInterfaceRequest, Attachment};
use crate::model::{InterfaceId, State};

/// A connected caller before its call.
pub(super) struct Caller<'a> {
    /// Its number, from 1.
    pub(super) number: usize,
    pub(super) eni: InterfaceId,
    pub(super) options: &'a Options,
    pub(super) client: Client,
}

impl Caller<'_> {
    /// Attaches, watches, and sends each step to `events`. A failure is sent too, and ends only
    /// this caller.
    pub(super) async fn run(
        self,
        began: Instant,
        deadline: Instant,
        events: UnboundedSender<DemoEvent>,
    ) {
        let tell = |phase, detail: String| {
            let event = DemoEvent {
                caller: self.number,
                eni: self.eni.clone(),
                phase,
                at: began.elapsed(),
                detail,
            };
            // The screen outlives the callers, unless the demo is over.
            let _ = events.send(event);
        };
        tell(CallerPhase::Calling, String::new());
        if let Err(error) = self.attach_and_watch(deadline, &tell).await {
            match error {
                Error::Refused(refusal) => match refusal.reason() {
                    Some(reason) => tell(CallerPhase::Refused(reason), refusal.headline()),
                    None => tell(CallerPhase::Broken, refusal.headline()),
                },
                other => tell(CallerPhase::Broken, other.to_string()),
            }
        }
    }

    async fn attach_and_watch(
        &self,
        deadline: Instant,
        tell: &impl Fn(CallerPhase, String),
    ) -> Result<(), Error> {
        let request = self.options.request(AttachNetworkInterfaceRequest {
            instance_id: INSTANCE.to_owned(),
            network_interface_id: self.eni.to_string(),
            ..AttachNetworkInterfaceRequest::default()
        });
        let after = match self.client.clone().attach_network_interface(request).await {
            Ok(response) => {
                let attachment = response.into_inner().attachment.unwrap_or_default();
                show(&attachment, tell);
                attachment.revision
            }
            Err(status) => {
                let refusal = Refusal::from(status);
                if !refusal.may_go_on() {
                    return Err(Error::Refused(Box::new(refusal)));
                }
                0
            }
        };
        let follow = Follow {
            client: self.options,
            instance: INSTANCE.to_owned(),
            eni: self.eni.to_string(),
            after,
            follow: false,
            deadline: Some(deadline),
        };
        let watched = follow.run(self.client.clone(), |attachment| {
            show(attachment, tell);
            Ok(())
        });
        watched.await.map(drop)
    }
}

fn show(attachment: &Attachment, tell: &impl Fn(CallerPhase, String)) {
    let detail = match &attachment.error {
        Some(error) => format!("{}: {}", error.reason, error.message),
        None if attachment.ens_status.is_empty() => String::new(),
        None => format!("ENS says {}", attachment.ens_status),
    };
    let state = match attachment.state() {
        ProtoState::Pending => State::Pending,
        ProtoState::Verifying => State::Verifying,
        ProtoState::Attaching => State::Attaching,
        ProtoState::Attached => State::Attached,
        ProtoState::Failed => State::Failed,
        ProtoState::Detaching => State::Detaching,
        ProtoState::Detached => State::Detached,
        ProtoState::Unspecified => {
            return tell(CallerPhase::Broken, "the gateway sent no state".to_owned());
        }
    };
    tell(CallerPhase::State(state), detail);
}
