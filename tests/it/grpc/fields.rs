//! Invalid fields are refused by name, on every RPC.

use eni_gateway::grpc::proto::{
    AttachNetworkInterfaceRequest, BatchAttachNetworkInterfacesRequest,
    BatchGetInstanceCapacitiesRequest, GetAttachmentRequest, GetInstanceCapacityRequest,
    ListAttachmentsRequest, WatchAttachmentRequest,
};
use rstest::rstest;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::gateway::{Gateway, attach};

fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("an ErrorInfo").reason, "INVALID_FIELD");
    details
        .bad_request()
        .expect("a BadRequest")
        .field_violations
        .iter()
        .map(|bad| bad.field.clone())
        .collect()
}

#[rstest]
#[case::empty("")]
#[case::overlong(&"x".repeat(129))]
#[case::not_ascii("instância")]
#[case::control_character("i-1\n")]
#[case::nul("i-1\0")]
#[case::braces("i-{p1}")]
#[case::space("i 1")]
#[case::slash("../i-1")]
#[tokio::test]
async fn a_bad_id_is_named(#[case] id: &str) {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let refused =
        client.attach_network_interface(attach(id, id)).await.expect_err("both ids are bad");
    assert_eq!(bad_fields(&refused), ["instance_id", "network_interface_id"]);
    let request = GetAttachmentRequest {
        instance_id: id.to_owned(),
        network_interface_id: "eni-1".to_owned(),
    };
    assert_eq!(
        bad_fields(&client.get_attachment(request).await.expect_err("a bad id")),
        ["instance_id"]
    );
    let request = ListAttachmentsRequest { instance_id: id.to_owned(), ..Default::default() };
    assert_eq!(
        bad_fields(&client.list_attachments(request).await.expect_err("a bad id")),
        ["instance_id"]
    );
    let request = WatchAttachmentRequest { instance_id: id.to_owned(), ..Default::default() };
    assert_eq!(
        bad_fields(&client.watch_attachment(request).await.expect_err("a bad id")),
        ["instance_id"]
    );
}

#[tokio::test]
async fn the_ids_of_a_batch_are_named_by_their_index() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut bad = async |ids: &[&str], seconds| {
        let request = BatchGetInstanceCapacitiesRequest {
            instance_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            max_age: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        bad_fields(&client.batch_get_instance_capacities(request).await.expect_err("bad fields"))
    };
    assert_eq!(bad(&[], -1).await, ["instance_ids", "max_age"]);
    assert_eq!(bad(&["i-1", "i 2", "i-3", "i-1"], 0).await, ["instance_ids[1]", "instance_ids[3]"]);
    let many: Vec<_> = (0..101).map(|number| format!("i-{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(bad(&many, 0).await, ["instance_ids"]);
    let request = GetInstanceCapacityRequest {
        instance_id: String::new(),
        max_age: Some(prost_types::Duration { seconds: 0, nanos: -1 }),
    };
    let refused = client.get_instance_capacity(request).await.expect_err("bad fields");
    assert_eq!(bad_fields(&refused), ["instance_id", "max_age"]);
    assert_eq!(gateway.ens.calls(), []);
}

#[tokio::test]
async fn the_enis_of_a_batch_are_named_by_their_index() {
    let gateway = Gateway::start().await;
    let mut client = gateway.client().await;
    let mut bad = async |instance: &str, enis: &[&str], request_id: &str| {
        let request = BatchAttachNetworkInterfacesRequest {
            instance_id: instance.to_owned(),
            network_interface_ids: enis.iter().map(|eni| (*eni).to_owned()).collect(),
            request_id: request_id.to_owned(),
            ..BatchAttachNetworkInterfacesRequest::default()
        };
        let refused = client.batch_attach_network_interfaces(request).await;
        bad_fields(&refused.expect_err("bad fields"))
    };
    assert_eq!(bad("", &[], "x").await, ["instance_id", "network_interface_ids", "request_id"]);
    let twice = ["eni-1", "eni 2", "eni-3", "eni-1"];
    let expected = ["network_interface_ids[1]", "network_interface_ids[3]"];
    assert_eq!(bad("i-1", &twice, "").await, expected);
    let many: Vec<_> = (0..21).map(|number| format!("eni-{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(bad("i-1", &many, "").await, ["network_interface_ids"]);
    assert_eq!(gateway.ens.calls(), []);
}

#[tokio::test]
async fn all_bad_fields_are_named_at_once() {
    let gateway = Gateway::start().await;
    let request =
        AttachNetworkInterfaceRequest { request_id: "no uuid".to_owned(), ..attach("", "é") };
    let refused = gateway
        .client()
        .await
        .attach_network_interface(request)
        .await
        .expect_err("nothing is right");
    assert_eq!(bad_fields(&refused), ["instance_id", "network_interface_id", "request_id"]);
}

#[tokio::test]
async fn what_tonic_refuses_by_itself_has_a_reason_too() {
    let gateway = Gateway::start().await;
    let huge = attach(&"x".repeat(1 << 20), "eni-1");
    let refused =
        gateway.client().await.attach_network_interface(huge).await.expect_err("a megabyte of id");
    assert_eq!(bad_fields(&refused), ["request"]);

    // Field 1 as a number, where the API has a text.
    let mut grpc = tonic::client::Grpc::new(gateway.channel().await);
    grpc.ready().await.expect("connected");
    let path =
        http::uri::PathAndQuery::from_static("/eni.gateway.v1.AttachmentService/GetAttachment");
    let codec = tonic_prost::ProstCodec::<u64, ()>::default();
    let refused = grpc
        .unary(tonic::Request::new(7_u64), path, codec)
        .await
        .expect_err("no message of the api");
    assert_eq!(bad_fields(&refused), ["request"]);
}
