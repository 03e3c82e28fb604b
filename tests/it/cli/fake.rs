//! A scripted gateway that records its requests.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::{State, Transition};
use eni_gateway::grpc::proto::attachment_service_server::{
    AttachmentService, AttachmentServiceServer,
};
use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::*;
use prost_types::Timestamp;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a watch stream does next.
#[derive(Debug)]
pub(super) enum Step {
    Show(Box<Attachment>),
    Beat {
        revision: u64,
        interval: Duration,
    },
    /// A heartbeat that says that something may be missing.
    BeatIncomplete {
        revision: u64,
        observe_time: Option<Timestamp>,
    },
    Fail(Status),
    /// Says nothing any more.
    Hang,
}

/// The answers, first come first served. A call without one is not answered at all.
#[derive(Default)]
pub(super) struct Script {
    pub(super) attach: VecDeque<Result<AttachNetworkInterfaceResponse, Status>>,
    pub(super) batch: VecDeque<Vec<AttachResult>>,
    pub(super) watch: VecDeque<Vec<Step>>,
    pub(super) fleet: VecDeque<Vec<Result<watch_attachments_response::Event, Status>>>,
    pub(super) get: VecDeque<Result<Attachment, Status>>,
    pub(super) list: VecDeque<ListAttachmentsResponse>,
    pub(super) capacities: VecDeque<Vec<InstanceCapacity>>,
}

/// What was asked.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) attach: Vec<AttachNetworkInterfaceRequest>,
    pub(super) batch: Vec<BatchAttachNetworkInterfacesRequest>,
    pub(super) watch: Vec<WatchAttachmentRequest>,
    pub(super) fleet: Vec<WatchAttachmentsRequest>,
    pub(super) lists: Vec<ListAttachmentsRequest>,
    pub(super) capacities: Vec<BatchGetInstanceCapacitiesRequest>,
    pub(super) metadata: Vec<tonic::metadata::MetadataMap>,
}

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) endpoint: String,
    script: Arc<Mutex<Script>>,
    pub(super) asked: Arc<Mutex<Asked>>,
}

impl Fake {
    /// Serves on a port of its own for as long as the test runs.
    pub(super) async fn serve(script: Script) -> Self {
        Self::serve_with(Server::builder(), "http", script).await
    }

    pub(super) async fn serve_with(mut server: Server, scheme: &str, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self {
            endpoint: format!("{scheme}://localhost:{port}"),
            script: Arc::new(Mutex::new(script)),
            asked: Arc::default(),
        };
        let served = server
            .add_service(AttachmentServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(served);
        fake
    }

    fn note<T>(&self, request: Request<T>, asked: impl FnOnce(&mut Asked, T)) {
        let mut all = self.asked.lock().unwrap();
        all.metadata.push(request.metadata().clone());
        asked(&mut all, request.into_inner());
    }
}

async fn never<T>() -> T {
    std::future::pending().await
}

#[tonic::async_trait]
impl AttachmentService for Fake {
    type WatchAttachmentStream =
        Pin<Box<dyn Stream<Item = Result<WatchAttachmentResponse, Status>> + Send>>;

    async fn attach_network_interface(
        &self,
        request: Request<AttachNetworkInterfaceRequest>,
    ) -> Result<Response<AttachNetworkInterfaceResponse>, Status> {
        self.note(request, |asked, message| asked.attach.push(message));
        let answer = self.script.lock().unwrap().attach.pop_front();
        match answer {
            Some(answer) => answer.map(Response::new),
            None => never().await,
        }
    }

    async fn batch_attach_network_interfaces(
        &self,
        request: Request<BatchAttachNetworkInterfacesRequest>,
    ) -> Result<Response<BatchAttachNetworkInterfacesResponse>, Status> {
        self.note(request, |asked, message| asked.batch.push(message));
        let results = self.script.lock().unwrap().batch.pop_front();
        let Some(results) = results else { never().await };
        Ok(Response::new(BatchAttachNetworkInterfacesResponse { results }))
    }

    async fn watch_attachment(
        &self,
        request: Request<WatchAttachmentRequest>,
    ) -> Result<Response<Self::WatchAttachmentStream>, Status> {
        self.note(request, |asked, message| asked.watch.push(message));
        let steps =
            self.script.lock().unwrap().watch.pop_front().unwrap_or_else(|| vec![Step::Hang]);
        let stream = tokio_stream::iter(steps).then(async |step| match step {
            Step::Show(attachment) => Ok(Event::Attachment(*attachment)),
            Step::Beat { revision, interval } => Ok(Event::Heartbeat(Heartbeat {
                revision,
                interval: interval.try_into().ok(),
                observe_time: at(0),
                incomplete: false,
            })),
            Step::BeatIncomplete { revision, observe_time } => Ok(Event::Heartbeat(Heartbeat {
                revision,
                interval: None,
                observe_time,
                incomplete: true,
            })),
            Step::Fail(status) => Err(status),
            Step::Hang => never().await,
        });
        Ok(Response::new(Box::pin(
            stream.map(|event| event.map(|event| WatchAttachmentResponse { event: Some(event) })),
        )))
    }

    type WatchAttachmentsStream =
        Pin<Box<dyn Stream<Item = Result<WatchAttachmentsResponse, Status>> + Send>>;

    async fn watch_attachments(
        &self,
        request: Request<WatchAttachmentsRequest>,
    ) -> Result<Response<Self::WatchAttachmentsStream>, Status> {
        self.note(request, |asked, message| asked.fleet.push(message));
        let Some(steps) = self.script.lock().unwrap().fleet.pop_front() else { never().await };
        let messages = tokio_stream::iter(steps);
        Ok(Response::new(Box::pin(
            messages
                .map(|event| event.map(|event| WatchAttachmentsResponse { event: Some(event) })),
        )))
    }

    async fn get_attachment(
        &self,
        request: Request<GetAttachmentRequest>,
    ) -> Result<Response<GetAttachmentResponse>, Status> {
        self.note(request, |_, _| ());
        let answer = self.script.lock().unwrap().get.pop_front();
        match answer {
            Some(answer) => answer.map(|attachment| {
                Response::new(GetAttachmentResponse { attachment: Some(attachment) })
            }),
            None => never().await,
        }
    }

    async fn list_attachments(
        &self,
        request: Request<ListAttachmentsRequest>,
    ) -> Result<Response<ListAttachmentsResponse>, Status> {
        self.note(request, |asked, message| asked.lists.push(message));
        let page = self.script.lock().unwrap().list.pop_front();
        match page {
            Some(page) => Ok(Response::new(page)),
            None => never().await,
        }
    }

    async fn get_instance_capacity(
        &self,
        request: Request<GetInstanceCapacityRequest>,
    ) -> Result<Response<GetInstanceCapacityResponse>, Status> {
        self.note(request, |asked, GetInstanceCapacityRequest { instance_id, max_age }| {
            let instance_ids = vec![instance_id];
            asked.capacities.push(BatchGetInstanceCapacitiesRequest { instance_ids, max_age });
        });
        let found = self.script.lock().unwrap().capacities.pop_front();
        let Some(found) = found else { never().await };
        let instance_capacity = found.into_iter().next();
        Ok(Response::new(GetInstanceCapacityResponse { instance_capacity }))
    }

    async fn batch_get_instance_capacities(
        &self,
        request: Request<BatchGetInstanceCapacitiesRequest>,
    ) -> Result<Response<BatchGetInstanceCapacitiesResponse>, Status> {
        self.note(request, |asked, message| asked.capacities.push(message));
        let found = self.script.lock().unwrap().capacities.pop_front();
        let Some(instance_capacities) = found else { never().await };
        Ok(Response::new(BatchGetInstanceCapacitiesResponse { instance_capacities }))
    }
}

pub(super) fn at(millis: i32) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_795_424_400 + i64::from(millis / 1000),
        nanos: millis % 1000 * 1_000_000,
    })
}

/// An attachment of `i-1` in this state.
pub(super) fn attachment(eni: &str, state: State, revision: u64) -> Attachment {
    Attachment {
        instance_id: "i-1".to_owned(),
        network_interface_id: eni.to_owned(),
        uid: "0199b2c4-0000-7000-8000-000000000001".to_owned(),
        state: state as i32,
        ens_status: if state == State::Attached { "InUse" } else { "Attaching" }.to_owned(),
        observe_time: at(1500),
        revision,
        create_time: at(0),
        update_time: at(1500),
        ens_request_id: "6C1A".to_owned(),
        error: None,
        transitions: vec![
            Transition { state: State::Pending as i32, time: at(0) },
            Transition { state: state as i32, time: at(1500) },
        ],
        stuck: false,
    }
}

/// An attachment of `i-1` that failed after it had been accepted.
pub(super) fn failed(eni: &str, revision: u64) -> Attachment {
    let error = AttachmentError {
        code: Code::Aborted as i32,
        reason: "ATTACH_FAILED".to_owned(),
        message: "ENS accepted, and then showed the ENI free".to_owned(),
        ens_request_id: "6C1A".to_owned(),
        ..AttachmentError::default()
    };
    Attachment { error: Some(error), ..attachment(eni, State::Failed, revision) }
}

/// An answer to an attach.
pub(super) fn accepted(attachment: Attachment) -> Result<AttachNetworkInterfaceResponse, Status> {
    Ok(AttachNetworkInterfaceResponse {
        ens_request_id: attachment.ens_request_id.clone(),
        attachment: Some(attachment),
        checks: Vec::new(),
    })
}

/// A refusal as the gateway makes them.
pub(super) fn refusal(
    code: Code,
    reason: &str,
    message: &str,
    metadata: &[(&str, &str)],
) -> Status {
    let metadata: HashMap<_, _> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut details = ErrorDetails::with_error_info(reason, "eni-gateway", metadata);
    if code == Code::ResourceExhausted {
        details.set_retry_info(Some(Duration::from_millis(1500)));
    }
    if code == Code::InvalidArgument {
        details.add_bad_request_violation("instance_id", "must not be empty");
    }
    Status::with_error_details(code, message, details)
}
