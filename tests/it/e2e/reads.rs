//! Reads while ENS is down, refuses the key, throttles, or has no permits: the known state with its
//! age, or a reason.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::watch_attachment_response::Event;
use eni_gateway::grpc::proto::{
    ListAttachmentsRequest, ListAttachmentsResponse, WatchAttachmentRequest,
};
use eni_gateway::simulator::auth::{AccessKey, DEFAULT_ID, DEFAULT_SECRET};
use eni_gateway::simulator::{Action, Effect, Fault, WorldFile};
use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use crate::support::gateway::{Client, Stage, attach, get, try_attach, watch};
use crate::support::redis::Server;

/// On this one others have attached as many ENIs as it takes.
const FULL: &str = "i-full";

async fn stage() -> Stage {
    Stage::over(Server::start().await, WorldFile::default_world()).await
}

async fn list(client: &Client, instance: &str) -> Result<ListAttachmentsResponse, Status> {
    let request = ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        ..ListAttachmentsRequest::default()
    };
    Ok(client.clone().list_attachments(request).await?.into_inner())
}

async fn open(
    client: &Client,
    instance: &str,
    eni: &str,
    follow: bool,
) -> Result<Streaming<Message>, Status> {
    let request = WatchAttachmentRequest {
        instance_id: instance.to_owned(),
        network_interface_id: eni.to_owned(),
        after_revision: 0,
        follow,
    };
    Ok(client.clone().watch_attachment(request).await?.into_inner())
}

type Message = eni_gateway::grpc::proto::WatchAttachmentResponse;

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.unwrap_or_else(|| panic!("{status:?}")).reason
}

/// Describes fail like this, from now on.
fn describes(stage: &Stage, effect: Effect) {
    let fault = Fault::next(Action::DescribeNetworkInterfaces, effect);
    stage.ens.fault(fault.times(u32::MAX));
}

async fn never_none(stage: &Stage, expected: &str, clear: impl FnOnce()) {
    let replica = stage.replica(&[("WATCH__HEARTBEAT", "1s")]).await;
    let client = replica.client().await;
    let failures = [
        list(&client, FULL).await.map(drop),
        get(&client, FULL, "eni-0001").await.map(drop),
        watch(&client, FULL, "", 0).await.map(drop),
        open(&client, FULL, "eni-0001", false).await.map(drop),
        open(&client, FULL, "eni-0001", true).await.map(drop),
    ];
    for failure in failures {
        let status = failure.expect_err("nothing is known of it");
        assert_eq!(reason(&status), expected, "{status:?}");
        assert!(!format!("{status:?}").contains("attach again"), "{status:?}");
    }
    // A follower receives that, and everything once ENS can be asked again.
    let mut stream = open(&client, FULL, "", true).await.unwrap();
    let first = stream.message().await.unwrap().unwrap().event.unwrap();
    let Event::Heartbeat(heartbeat) = first else {
        panic!("{first:?}");
    };
    assert!(heartbeat.incomplete && heartbeat.observe_time.is_none(), "{heartbeat:?}");
    clear();
    let mut seen = 0;
    loop {
        match stream.message().await.unwrap().unwrap().event.unwrap() {
            Event::Attachment(attachment) => {
                assert_eq!(attachment.state(), State::Attached);
                seen += 1;
            }
            Event::Heartbeat(heartbeat) if heartbeat.incomplete => assert_eq!(seen, 0),
            Event::Heartbeat(heartbeat) => {
                break assert!(heartbeat.observe_time.is_some(), "{heartbeat:?}");
            }
        }
    }
    assert_eq!(seen, 10);
    let listed = list(&client, FULL).await.unwrap();
    assert_eq!((listed.attachments.len(), listed.incomplete), (10, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ens_down_no_read_says_none() {
    let stage = stage().await;
    describes(&stage, Effect::DropBefore);
    never_none(&stage, "ENS_UNAVAILABLE", || stage.ens.clear_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_ens_that_answers_nonsense_no_read_says_none() {
    let stage = stage().await;
    let page = Effect::Html { status: 502, apply: false };
    describes(&stage, page);
    never_none(&stage, "ENS_UNAVAILABLE", || stage.ens.clear_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_our_key_refused_no_read_says_none() {
    let stage = stage().await;
    stage.ens.set_keys(vec![AccessKey::new(DEFAULT_ID, "another-secret")]);
    never_none(&stage, "ENS_CREDENTIALS_REJECTED", || {
        stage.ens.set_keys(vec![AccessKey::new(DEFAULT_ID, DEFAULT_SECRET)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_account_throttled_no_read_says_none() {
    let stage = stage().await;
    describes(&stage, Effect::Throttle { retry_after: None });
    never_none(&stage, "ENS_THROTTLED", || stage.ens.clear_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_gateway_knows_it_shows_without_ens() {
    let stage = stage().await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    try_attach(&client, attach("i-stopped-1", "eni-0001")).await.unwrap();
    let end = watch(&client, "i-stopped-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    describes(&stage, Effect::DropBefore);
    let listed = list(&client, "i-stopped-1").await.unwrap();
    assert_eq!(listed.attachments.len(), 1);
    assert_eq!(listed.incomplete, listed.observe_time.is_none(), "{listed:?}");
    let got = get(&client, "i-stopped-1", "eni-0001").await.unwrap();
    assert_eq!((&got.uid, got.state()), (&end.uid, State::Attached));
    let status = get(&client, "i-stopped-2", "eni-0002").await.unwrap_err();
    assert_eq!(reason(&status), "ENS_UNAVAILABLE", "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_a_small_budget_cannot_serve_do_not_queue() {
    let stage = stage().await;
    // One describe in a second is for callers.
    let replica = stage.replica(&[("ENS__DESCRIBE_PER_SECOND", "2")]).await;
    let client = replica.client().await;
    let names: Vec<_> = (0..40).map(|n| format!("i-{n}")).collect();
    let began = Instant::now();
    let lists = join_all(names.iter().map(|name| list(&client, name))).await;
    // In turn they would take forty seconds, or give up after ten.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let refused: Vec<_> = lists.into_iter().filter_map(Result::err).collect();
    assert!(refused.len() >= 30, "{}", refused.len());
    for status in refused {
        assert_eq!(reason(&status), "ENS_THROTTLED", "{status:?}");
        assert!(status.get_details_retry_info().is_some(), "{status:?}");
    }
}
