//! Reflection in both versions, with the types of the error details.

use tokio_stream::StreamExt;

use super::gateway::Gateway;

const SERVICES: [&str; 4] = [
    "eni.gateway.v1.AttachmentService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

macro_rules! lists_and_finds {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let gateway = Gateway::start().await;
            let mut client = ServerReflectionClient::new(gateway.channel().await);
            let ask = |request| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            };
            let requests = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(
                    "eni.gateway.v1.AttachmentService".to_owned(),
                )),
                ask(MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned())),
                ask(MessageRequest::FileByFilename("google/protobuf/timestamp.proto".to_owned())),
            ]);
            let answers =
                client.server_reflection_info(requests).await.expect("answers").into_inner();
            let mut answers = answers
                .map(|answer| answer.expect("an answer").message_response.expect("a message"));
            let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await else {
                panic!("no list")
            };
            let services: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
            assert_eq!(services.len(), SERVICES.len(), "{services:?}");
            for service in SERVICES {
                assert!(
                    services.iter().any(|name| name == service),
                    "{service} is not in {services:?}"
                );
            }
            for _ in 0..3 {
                let found = answers.next().await.expect("an answer");
                assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{found:?}");
            }
        }
    };
}

lists_and_finds!(v1_shows_the_api_and_the_error_details, v1);
lists_and_finds!(v1alpha_shows_the_api_and_the_error_details, v1alpha);
