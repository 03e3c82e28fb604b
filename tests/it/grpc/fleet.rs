//! All instances over the wire: pages, streams, and who may see what.

use std::collections::BTreeSet;

use eni_gateway::grpc::proto::attachment::State as WireState;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::proto::watch_attachments_response::Event;
use eni_gateway::grpc::proto::{
    InstanceAttachments, ListAttachmentsRequest, WatchAttachmentsRequest, WatchAttachmentsResponse,
};
use eni_gateway::model::State;
use rcgen::SanType;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::access::{Guarded, POLICY, dns, end, uri};
use super::fakes::{attachment, put};
use super::gateway::Gateway;
use super::reason;
use crate::support::python::{PythonClient, call, within_at_gateway};

type Client = AttachmentServiceClient<Channel>;

async fn filled(gateway: &Gateway) {
    for (number, instance) in (1..).zip(["i-web", "i-db", "i-frozen", "i-4", "i-5"]) {
        put(&gateway.store, attachment(instance, "eni-1", State::Attached, number)).await;
        put(&gateway.store, attachment(instance, "eni-2", State::Failed, 10 + number)).await;
    }
}

/// Every page of all instances, as `instance/eni`.
async fn listed(client: &mut Client, request: ListAttachmentsRequest) -> Vec<String> {
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListAttachmentsRequest { instance_id: "-".to_owned(), page_token, ..request.clone() };
        let page = client.list_attachments(request).await.expect("a page").into_inner();
        assert!(page.observe_time.is_none() && !page.incomplete);
        let each = page.attachments.iter();
        seen.extend(each.map(|it| format!("{}/{}", it.instance_id, it.network_interface_id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return seen;
        }
    }
}

async fn open(
    client: &mut Client,
    request: WatchAttachmentsRequest,
) -> Streaming<WatchAttachmentsResponse> {
    client.watch_attachments(request).await.expect("a stream").into_inner()
}

/// The instances up to a heartbeat, and its token.
async fn snapshot(
    stream: &mut Streaming<WatchAttachmentsResponse>,
) -> (Vec<InstanceAttachments>, String) {
    let mut instances = Vec::new();
    loop {
        let message = stream.message().await.expect("a message").expect("no end");
        match message.event.expect("an event") {
            Event::Instance(instance) => instances.push(instance),
            Event::Reset(_) => {}
            Event::Heartbeat(heartbeat) => return (instances, heartbeat.resume_token),
        }
    }
}

fn names(instances: &[InstanceAttachments]) -> BTreeSet<&str> {
    instances.iter().map(|instance| instance.instance_id.as_str()).collect()
}

#[tokio::test]
async fn pages_of_all_instances_follow_each_other() {
    let gateway = Gateway::start().await;
    filled(&gateway).await;
    let mut client = gateway.client().await;
    for page_size in [1, 3, 0] {
        let request = ListAttachmentsRequest { page_size, ..Default::default() };
        let seen = listed(&mut client, request).await;
        assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (10, 10));
    }
    let failed = vec![WireState::Failed as i32];
    let request = ListAttachmentsRequest { states: failed.clone(), ..Default::default() };
    let seen = listed(&mut client, request).await;
    assert!(seen.len() == 5 && seen.iter().all(|it| it.ends_with("/eni-2")), "{seen:?}");
    let stuck = ListAttachmentsRequest { stuck: true, ..Default::default() };
    assert!(listed(&mut client, stuck).await.is_empty());
    assert_eq!(gateway.ens.calls(), []);

    let one = ListAttachmentsRequest {
        instance_id: "i-web".to_owned(),
        states: failed,
        ..Default::default()
    };
    let one = client.list_attachments(one).await.expect("a page").into_inner();
    assert_eq!(one.attachments.len(), 1, "of one instance, too");
}

#[tokio::test]
async fn a_stream_of_all_instances_resumes_by_its_token() {
    let gateway = Gateway::start().await;
    filled(&gateway).await;
    let mut client = gateway.client().await;
    let request = WatchAttachmentsRequest { follow: true, ..Default::default() };
    let mut stream = open(&mut client, request.clone()).await;
    let (instances, resume_token) = snapshot(&mut stream).await;
    assert_eq!(names(&instances), ["i-4", "i-5", "i-db", "i-frozen", "i-web"].into());
    assert!(instances.iter().all(|instance| instance.attachments.len() == 2));
    drop(stream);
    put(&gateway.store, attachment("i-4", "eni-3", State::Attached, 99)).await;
    let resumed = WatchAttachmentsRequest { resume_token, ..request };
    let mut stream = open(&mut client, resumed).await;
    let (instances, _) = snapshot(&mut stream).await;
    assert_eq!((names(&instances), instances[0].attachments.len()), (["i-4"].into(), 3));

    // The order of the states is no other scope.
    let in_states = |states: &[WireState], resume_token| WatchAttachmentsRequest {
        states: states.iter().map(|state| *state as i32).collect(),
        resume_token,
        follow: true,
        ..Default::default()
    };
    let (attached, failed) = (WireState::Attached, WireState::Failed);
    let first = in_states(&[attached, failed], String::new());
    let (_, token) = snapshot(&mut open(&mut client, first).await).await;
    let again = in_states(&[failed, attached, failed], token);
    let (instances, _) = snapshot(&mut open(&mut client, again).await).await;
    assert!(instances.is_empty(), "they were sent: {instances:?}");

    gateway.stop();
    assert_eq!(reason(&end(&mut stream).await), "DRAINING");

    let bad = WatchAttachmentsRequest { resume_token: "x".to_owned(), ..Default::default() };
    let gateway = Gateway::start().await;
    let refused = gateway.client().await.watch_attachments(bad).await.expect_err("no token");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn callers_see_the_instances_of_their_rules() {
    let guarded = Guarded::start().await;
    filled(&guarded.gateway).await;
    let client = async |names: &[SanType]| {
        AttachmentServiceClient::new(guarded.channel(guarded.identity(names)).await)
    };
    let mut web = client(&[uri("spiffe://prod.example/ns/web/sa/api")]).await;
    let mut reader = client(&[dns("reader.example")]).await;
    let mut robot = client(&[dns("robot.example")]).await;
    let request = WatchAttachmentsRequest::default();
    let (instances, token) = snapshot(&mut open(&mut web, request.clone()).await).await;
    assert_eq!(names(&instances), ["i-frozen", "i-web"].into());
    let of_web = listed(&mut web, ListAttachmentsRequest::default()).await;
    assert_eq!(of_web.len(), 4, "{of_web:?}");
    assert_eq!(listed(&mut reader, ListAttachmentsRequest::default()).await.len(), 10);

    // Another caller's token leaves out nothing of what this one may see.
    let resumed = WatchAttachmentsRequest { resume_token: token, ..request.clone() };
    let (instances, _) = snapshot(&mut open(&mut reader, resumed).await).await;
    assert_eq!(instances.len(), 5);

    // A right to one ENI is none to instances.
    let refused = robot.watch_attachments(request).await.expect_err("it has no right");
    assert_eq!(reason(&refused), "CALLER_FORBIDDEN");
    let all = ListAttachmentsRequest { instance_id: "-".to_owned(), ..Default::default() };
    let refused = robot.list_attachments(all).await.expect_err("it has no right");
    assert_eq!(reason(&refused), "CALLER_FORBIDDEN");
}

#[tokio::test]
async fn a_new_policy_ends_the_stream_and_its_rights_hold_from_then_on() {
    let guarded = Guarded::start().await;
    filled(&guarded.gateway).await;
    let channel = guarded.channel(guarded.identity(&[dns("reader.example")])).await;
    let mut client = AttachmentServiceClient::new(channel);
    let request = WatchAttachmentsRequest { follow: true, ..Default::default() };
    let mut stream = open(&mut client, request.clone()).await;
    let (instances, resume_token) = snapshot(&mut stream).await;
    assert_eq!(instances.len(), 5);
    let all = "\"capacity\"]\ninstances = [\"*\"]";
    let narrower = POLICY.replace(all, &all.replace('*', "i-web"));
    assert_ne!(narrower, POLICY);
    std::fs::write(&guarded.policy, narrower).expect("written");
    assert!(guarded.store.reload().await.expect("a policy"));
    assert_eq!(reason(&end(&mut stream).await), "STREAM_TOO_OLD");

    let mut stream = open(&mut client, WatchAttachmentsRequest { resume_token, ..request }).await;
    let (mut resets, mut shown) = (BTreeSet::new(), Vec::new());
    loop {
        let message = stream.message().await.expect("a message").expect("no end");
        match message.event.expect("an event") {
            Event::Reset(reset) => assert!(resets.insert(reset.partition)),
            Event::Instance(instance) => shown.push(instance),
            Event::Heartbeat(_) => break,
        }
    }
    assert_eq!((names(&shown), shown.len()), (["i-web"].into(), 1));
    assert!(instances.iter().all(|instance| resets.contains(&instance.partition)));
}

#[tokio::test]
async fn python_reads_pages_and_streams_of_all_instances() {
    let gateway = Gateway::start().await;
    filled(&gateway).await;
    let (mut python, address) = (PythonClient::start(), gateway.address.to_string());
    let request = json!({ "instance_id": "-", "states": ["STATE_ATTACHED"] });
    let page = python.call_one(call(&address, "ListAttachments", request)).await;
    assert_eq!(page["response"]["attachments"].as_array().expect("a page").len(), 5, "{page:#}");
    let request = json!({ "instance_prefix": "i-w" });
    let stream = python.call_one(call(&address, "WatchAttachments", request)).await;
    assert_eq!(stream["code"], "OK", "{stream:#}");
    assert_eq!(stream["messages"][0]["instance"]["instance_id"], "i-web", "{stream:#}");
    let token = &stream["messages"][1]["heartbeat"]["resume_token"];
    let request = json!({ "instance_prefix": "i-w", "resume_token": token, "follow": true });
    let follow = within_at_gateway(1.0, call(&address, "WatchAttachments", request));
    let stream = python.call_one(follow).await;
    let end = (&stream["code"], &stream["reason"]);
    assert_eq!(end, (&"DEADLINE_EXCEEDED".into(), &"STREAM_TOO_OLD".into()));
    assert!(stream["messages"][0]["heartbeat"].is_object(), "nothing is sent again: {stream:#}");
}
