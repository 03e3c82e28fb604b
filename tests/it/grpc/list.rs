//! Lists, page by page.

use eni_gateway::grpc::proto::ListAttachmentsRequest;
use eni_gateway::model::State;
use tonic::Code;

use super::fakes::attachment;
use super::gateway::Gateway;

fn page(instance: &str, size: i32, token: &str) -> ListAttachmentsRequest {
    ListAttachmentsRequest {
        instance_id: instance.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let gateway = Gateway::start().await;
    for number in 0..5 {
        super::fakes::put(
            &gateway.store,
            attachment("i-1", &format!("eni-{number}"), State::Attached, number + 1),
        )
        .await;
    }
    let mut client = gateway.client().await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let answer =
            client.list_attachments(page("i-1", 2, &token)).await.expect("a page").into_inner();
        assert!(answer.attachments.len() <= 2);
        assert!(answer.observe_time.is_some() && !answer.incomplete, "on every page");
        seen.extend(
            answer.attachments.into_iter().map(|attachment| attachment.network_interface_id),
        );
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        let other =
            client.list_attachments(page("i-2", 2, &token)).await.expect_err("the token is i-1's");
        assert_eq!(other.code(), Code::InvalidArgument);
    }
    assert_eq!(seen, ["eni-0", "eni-1", "eni-2", "eni-3", "eni-4"]);
}

#[tokio::test]
async fn an_instance_without_any_is_an_empty_list() {
    let gateway = Gateway::start().await;
    let answer = gateway
        .client()
        .await
        .list_attachments(page("i-1", 0, ""))
        .await
        .expect("a page")
        .into_inner();
    assert!(answer.attachments.is_empty() && answer.next_page_token.is_empty());
    assert!(answer.observe_time.is_some() && !answer.incomplete, "ens was asked");
}
