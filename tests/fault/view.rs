//! The attachments that one watcher received, over all its streams.

use std::collections::BTreeMap;
use std::time::Duration;

use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{Attachment, WatchAttachmentRequest};
use eni_gateway::ledger::invariants::world;
use eni_gateway::model::State;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::environment::Environment;
use crate::episode::Violation;
use crate::gateway::Client;

/// A stream that is silent for so long is dead: three heartbeats.
const SILENCE: Duration = Duration::from_secs(6);

pub(crate) struct View {
    pub(crate) instance: String,
    /// Empty: the whole instance.
    pub(crate) eni: String,
    pub(crate) revision: u64,
    pub(crate) last: BTreeMap<String, Attachment>,
}

/// Why a stream was left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It ended well.
    Ended,
    /// There is no such attachment.
    NotFound,
    /// It broke, or fell silent.
    Broken,
}

impl View {
    pub(crate) fn of(instance: &str, eni: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            eni: eni.to_owned(),
            revision: 0,
            last: BTreeMap::new(),
        }
    }

    /// Takes up a stream where the last one ended, until it ends.
    pub(crate) async fn watch(
        &mut self,
        environment: &Environment,
        mut client: Client,
        follow: bool,
    ) -> Left {
        let request = WatchAttachmentRequest {
            instance_id: self.instance.clone(),
            network_interface_id: self.eni.clone(),
            after_revision: self.revision,
            follow,
        };
        let left = |status: &Status| match status.code() {
            Code::NotFound => Left::NotFound,
            _ => Left::Broken,
        };
        let mut stream = match timeout(SILENCE, client.watch_attachment(request)).await {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return left(&status),
            Err(_) => return Left::Broken,
        };
        let mut first = true;
        loop {
            match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(message))) => {
                    self.take(environment, message.event, std::mem::take(&mut first))
                }
                Ok(Ok(None)) => return Left::Ended,
                Ok(Err(status)) => return left(&status),
                Err(_) => return Left::Broken,
            }
        }
    }

    fn take(&mut self, environment: &Environment, event: Option<Event>, first: bool) {
        // What the ledger lost cannot be shown again.
        let excused = environment.rolled_back_lately();
        let wrong = |what: String| {
            environment.violation(Violation::Wrong, format!("{what}, watching {}", self.instance))
        };
        match event {
            Some(Event::Attachment(next)) => {
                let rises = world::rises(self.revision, next.revision);
                if !(rises || first && excused) {
                    wrong(format!(
                        "W1: {} at revision {} after {}",
                        next.network_interface_id, next.revision, self.revision
                    ));
                }
                let before = self.last.get(&next.network_interface_id);
                if let Some(before) = before.filter(|before| before.uid == next.uid)
                    && !world::may_be_shown(state(before), state(&next))
                    && !excused
                {
                    wrong(format!(
                        "A2: {:?} became {:?} within {}",
                        before.state(),
                        next.state(),
                        next.uid
                    ));
                }
                self.revision = next.revision;
                self.last.insert(next.network_interface_id.clone(), next);
            }
            Some(Event::Heartbeat(heartbeat)) => {
                if heartbeat.revision < self.revision && !(first && excused) {
                    wrong(format!(
                        "W1: a heartbeat of {} after {}",
                        heartbeat.revision, self.revision
                    ));
                }
                self.revision = heartbeat.revision;
            }
            None => {}
        }
    }
}

/// The state, which the gateway always names.
pub(crate) fn state(attachment: &Attachment) -> State {
    attachment.state().known().expect("the gateway names every state")
}
