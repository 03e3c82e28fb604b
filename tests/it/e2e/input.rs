//! Invalid requests: every bad field is named, and no backend is called.

use eni_gateway::grpc::proto::GetAttachmentRequest;
use tonic_types::StatusExt;

use crate::support::gateway::{Stage, attach, reason, try_attach};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_field_is_named() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica = stage.replica(&[]).await;
    let client = replica.client().await;
    let long = "x".repeat(129);
    for bad in ["", &long, "ü-1", "i\n1", "i\0", "i{1}", "i 1", "../i", "i/1"] {
        let failure = try_attach(&client, attach(bad, bad)).await.unwrap_err();
        assert_eq!(
            (failure.0.code(), reason(&failure).as_str()),
            (tonic::Code::InvalidArgument, "INVALID_FIELD"),
            "{bad:?}"
        );
        let fields: Vec<_> = failure
            .1
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, ["instance_id", "network_interface_id"], "{bad:?}");
    }
    let mut request = attach("i-1", "eni-0001");
    request.request_id = "not-a-uuid".to_owned();
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(failure.1.bad_request().unwrap().field_violations[0].field, "request_id");
    assert!(stage.ens.journal().calls.is_empty());

    let unknown = GetAttachmentRequest {
        instance_id: "i-1".to_owned(),
        network_interface_id: "eni-0001".to_owned(),
    };
    let status = client.clone().get_attachment(unknown).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "ATTACHMENT_NOT_FOUND");
}
