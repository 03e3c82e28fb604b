//! The standard health service.

use tokio_stream::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::gateway::Gateway;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn nothing_serves_before_it_is_set() {
    let gateway = Gateway::start().await;
    let mut client = HealthClient::new(gateway.channel().await);
    for (serving, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)]
    {
        gateway.health.set(serving).await;
        for service in ["", "eni.gateway.v1.AttachmentService"] {
            let answer = client.check(of(service)).await.expect("an answer").into_inner();
            assert_eq!(answer.status(), expected, "{service:?}");
        }
    }
    assert_eq!(
        client.check(of("unknown")).await.expect_err("no such service").code(),
        tonic::Code::NotFound
    );
}

#[tokio::test]
async fn a_check_is_answered_beside_any_number_of_watches() {
    let gateway = Gateway::start().await;
    let mut client = HealthClient::new(gateway.channel().await);
    let mut watches = Vec::new();
    let refused = loop {
        match client.watch(of("")).await {
            Ok(stream) => watches.push(stream),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    client.check(of("")).await.expect("an answer");
}

#[tokio::test]
async fn a_stop_is_sent_and_ends_the_watches_of_health() {
    let mut gateway = Gateway::start().await;
    gateway.health.set(true).await;
    let mut client = HealthClient::new(gateway.channel().await);
    let mut stream = client.watch(of("")).await.expect("a stream").into_inner();
    assert_eq!(
        stream.next().await.expect("a message").expect("a status").status(),
        ServingStatus::Serving
    );
    gateway.stop();
    while let Some(message) = stream.next().await {
        assert_eq!(message.expect("a status").status(), ServingStatus::NotServing);
    }
    drop((stream, client));
    (&mut gateway.serving).await.expect("no panic").expect("a clean stop");
}
