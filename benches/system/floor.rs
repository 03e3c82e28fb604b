//! The floor: the least program that does a case's network work with the gateway's libraries. It
//! keeps no limit, no lock and no record; it may be wrong, and is only fast.
//!
//! The id of the instance names the case. A script is one round trip to Redis, as the gateway's
//! are: it reads INFO and TIME, and sets or compares one value. A call of ENS is one signed POST
//! over a kept connection, whose JSON is read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use eni_gateway::grpc::proto::attachment_service_server::{
    AttachmentService, AttachmentServiceServer,
};
use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, AttachNetworkInterfaceResponse, Attachment,
    BatchAttachNetworkInterfacesRequest, BatchAttachNetworkInterfacesResponse,
    BatchGetInstanceCapacitiesRequest, BatchGetInstanceCapacitiesResponse, GetAttachmentRequest,
    GetAttachmentResponse, GetInstanceCapacityRequest, GetInstanceCapacityResponse, Heartbeat,
    ListAttachmentsRequest, ListAttachmentsResponse, WatchAttachmentRequest,
    WatchAttachmentResponse, WatchAttachmentsRequest, WatchAttachmentsResponse,
    attachment::{State, Transition},
    watch_attachment_response::Event,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::sync::broadcast;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Result;
use crate::cases::Case;
use signed::Account;

mod signed;

/// The bytes that a script sets: about as many as the record of an instance with one attachment
/// takes.
const RECORD_SIZE: usize = 1200;

/// Serves the floor until it is killed.
pub(crate) async fn serve(listen: SocketAddr, redis: &str, ens: &str) -> Result<()> {
    let client = redis::Client::open(redis)?;
    let floor = Floor {
        redis: client.get_multiplexed_async_connection().await?,
        write: Script::new(include_str!("floor/write.lua")),
        read: Script::new(include_str!("floor/read.lua")),
        account: Account::new(ens)?,
        record: "x".repeat(RECORD_SIZE),
        changes: broadcast::Sender::new(16),
    };
    let server = tonic::transport::Server::builder()
        // As the gateway does; without it a connection takes 200.
        .max_concurrent_streams(1024)
        .add_service(AttachmentServiceServer::new(floor));
    Ok(server.serve(listen).await?)
}

struct Floor {
    redis: MultiplexedConnection,
    write: Script,
    read: Script,
    record: String,
    account: Account,
    changes: broadcast::Sender<Attachment>,
}

impl Floor {
    /// One script that sets a record.
    async fn write(&self, instance: &str) -> std::result::Result<(), Status> {
        let mut redis = self.redis.clone();
        let mut call = self.write.key(instance);
        let written: redis::RedisResult<(u64, u64)> =
            call.arg(&self.record).invoke_async(&mut redis).await;
        written.map(drop).map_err(unavailable)
    }

    /// One script that reads the beginning of a record, which says whether it changed.
    async fn read(&self, instance: &str) -> std::result::Result<(), Status> {
        let mut redis = self.redis.clone();
        let read: redis::RedisResult<(u64, u64, String)> =
            self.read.key(instance).invoke_async(&mut redis).await;
        read.map(drop).map_err(unavailable)
    }

    /// An accepted attach: lock, reservation and result where the instance is described, else
    /// reservation and result.
    async fn attach(
        &self,
        instance: &str,
        eni: &str,
        describes: bool,
    ) -> std::result::Result<Attachment, Status> {
        if describes {
            self.write(instance).await?;
            self.account.describe(instance).await.map_err(unavailable)?;
        }
        self.write(instance).await?;
        self.publish(instance, eni, State::Pending);
        let id = self.account.attach(instance, eni).await.map_err(unavailable)?;
        self.write(instance).await?;
        self.publish(instance, eni, State::Attaching);
        let mut attached = answer(instance, eni, State::Attaching);
        attached.ens_request_id = id;
        Ok(attached)
    }

    /// Sends a change to all watchers, if there are any.
    fn publish(&self, instance: &str, eni: &str, state: State) {
        if self.changes.receiver_count() > 0 {
            // All receivers may have gone meanwhile.
            let _ = self.changes.send(answer(instance, eni, state));
        }
    }
}

#[tonic::async_trait]
impl AttachmentService for Floor {
    async fn attach_network_interface(
        &self,
        request: Request<AttachNetworkInterfaceRequest>,
    ) -> std::result::Result<Response<AttachNetworkInterfaceResponse>, Status> {
        let asked = request.into_inner();
        let (instance, eni) = (asked.instance_id, asked.network_interface_id);
        let attachment = match Case::of(&instance) {
            Some(Case::Refusal) => {
                self.read(&instance).await?;
                return Err(refusal(&instance, &eni));
            }
            Some(Case::Join) => {
                self.read(&instance).await?;
                answer(&instance, &eni, State::Attaching)
            }
            Some(Case::AttachRecent) => self.attach(&instance, &eni, false).await?,
            _ => self.attach(&instance, &eni, true).await?,
        };
        Ok(Response::new(AttachNetworkInterfaceResponse {
            ens_request_id: attachment.ens_request_id.clone(),
            attachment: Some(attachment),
            checks: Vec::new(),
        }))
    }

    async fn get_attachment(
        &self,
        request: Request<GetAttachmentRequest>,
    ) -> std::result::Result<Response<GetAttachmentResponse>, Status> {
        let asked = request.into_inner();
        self.read(&asked.instance_id).await?;
        let attachment = answer(&asked.instance_id, &asked.network_interface_id, State::Attached);
        Ok(Response::new(GetAttachmentResponse { attachment: Some(attachment) }))
    }

    type WatchAttachmentStream =
        BoxStream<'static, std::result::Result<WatchAttachmentResponse, Status>>;

    async fn watch_attachment(
        &self,
        _request: Request<WatchAttachmentRequest>,
    ) -> std::result::Result<Response<Self::WatchAttachmentStream>, Status> {
        let message = |event| Ok(WatchAttachmentResponse { event: Some(event) });
        let opened = Heartbeat { revision: 1, ..Heartbeat::default() };
        let opened = stream::iter([message(Event::Heartbeat(opened))]);
        let changes = stream::unfold(self.changes.subscribe(), move |mut changes| async move {
            let attachment = changes.recv().await.ok()?;
            Some((message(Event::Attachment(attachment)), changes))
        });
        Ok(Response::new(opened.chain(changes).boxed()))
    }

    type WatchAttachmentsStream =
        BoxStream<'static, std::result::Result<WatchAttachmentsResponse, Status>>;

    async fn watch_attachments(
        &self,
        _request: Request<WatchAttachmentsRequest>,
    ) -> std::result::Result<Response<Self::WatchAttachmentsStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }

    /// No work at all: what tonic alone costs.
    async fn list_attachments(
        &self,
        _request: Request<ListAttachmentsRequest>,
    ) -> std::result::Result<Response<ListAttachmentsResponse>, Status> {
        Ok(Response::new(ListAttachmentsResponse::default()))
    }

    async fn get_instance_capacity(
        &self,
        _request: Request<GetInstanceCapacityRequest>,
    ) -> std::result::Result<Response<GetInstanceCapacityResponse>, Status> {
        Ok(Response::new(GetInstanceCapacityResponse::default()))
    }

    async fn batch_attach_network_interfaces(
        &self,
        _request: Request<BatchAttachNetworkInterfacesRequest>,
    ) -> std::result::Result<Response<BatchAttachNetworkInterfacesResponse>, Status> {
        Ok(Response::new(BatchAttachNetworkInterfacesResponse::default()))
    }

    async fn batch_get_instance_capacities(
        &self,
        _request: Request<BatchGetInstanceCapacitiesRequest>,
    ) -> std::result::Result<Response<BatchGetInstanceCapacitiesResponse>, Status> {
        Ok(Response::new(BatchGetInstanceCapacitiesResponse::default()))
    }
}

/// An attachment with every field that the gateway's has in this state.
fn answer(instance: &str, eni: &str, state: State) -> Attachment {
    let now = prost_types::Timestamp::from(SystemTime::now());
    let entered = [State::Pending, State::Attaching, State::Attached].into_iter();
    let transitions = entered.take_while(|entered| *entered as i32 <= state as i32);
    let shown = state == State::Attached;
    Attachment {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        uid: "6f1c7a52-91c5-4f67-8a3e-0123456789ab".to_owned(),
        state: state.into(),
        ens_status: if shown { "InUse".to_owned() } else { String::new() },
        observe_time: shown.then_some(now),
        revision: 1_790_000_000_000_000,
        create_time: Some(now),
        update_time: Some(now),
        ens_request_id: "2E3F8E5A-7C1B-5D0E-9B57-0123456789AB".to_owned(),
        transitions: transitions
            .map(|state| Transition { state: state.into(), time: Some(now) })
            .collect(),
        ..Attachment::default()
    }
}

/// The refusal of a full instance with every detail that the gateway's has.
fn refusal(instance: &str, eni: &str) -> Status {
    let message = "the instance has no free slot: limit 10, attached 10, in flight 0; nothing \
                   was sent; detach another eni from it first";
    let metadata = [
        ("instanceId", instance),
        ("networkInterfaceId", eni),
        ("limit", "10"),
        ("attached", "10"),
        ("inFlight", "0"),
        ("observedAt", "2026-11-28T12:00:00.000Z"),
    ];
    let metadata: HashMap<_, _> =
        metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let help = "ENI_LIMIT_EXCEEDED: the attach was refused, nothing is attached; call again \
                after the delay";
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(Duration::from_secs(2)));
    details.add_quota_failure_violation(format!("instance:{instance}"), message);
    details.add_help_link(help, "docs/errors.md#eni_limit_exceeded");
    details.set_error_info("ENI_LIMIT_EXCEEDED", "eni-gateway", metadata);
    let mut trailers = MetadataMap::new();
    trailers.insert("grpc-retry-pushback-ms", 2000.into());
    Status::with_error_details_and_metadata(Code::ResourceExhausted, message, details, trailers)
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}
