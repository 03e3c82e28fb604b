//! A connection at its maximum age gets no new calls, and keeps its streams.

use std::time::Duration;

use eni_gateway::drain::Phase;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::server::Settings;
use http::{Request, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::body::Body;
use tonic_types::StatusExt;

use super::gateway::{Gateway, Options, get, watch};

#[tokio::test]
async fn an_old_connection_takes_no_new_calls_and_keeps_its_streams() {
    let settings = Settings { max_connection_age: Duration::from_secs(3), ..Settings::default() };
    let gateway = Gateway::with(Options { settings, ..Options::default() }).await;
    // One connection, by hand: a channel would quietly open another one.
    let tcp = TokioIo::new(TcpStream::connect(gateway.address).await.expect("accepted"));
    let (sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), tcp).await.expect("http/2");
    #[expect(clippy::disallowed_methods, reason = "ends with its connection")]
    tokio::spawn(connection);
    let service = tower::service_fn(move |request: Request<Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let origin: Uri = format!("http://{}", gateway.address).parse().expect("a uri");
    let mut client = AttachmentServiceClient::with_origin(service, origin);

    let mut stream =
        client.watch_attachment(watch("i-1", "eni-1", true)).await.expect("a stream").into_inner();
    stream.next().await.expect("a message").expect("the first heartbeat");
    loop {
        let refused =
            client.get_attachment(get("i-1", "eni-1")).await.expect_err("nothing is there");
        if refused.code() != Code::NotFound {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    gateway.drain.enter(Phase::Draining);
    let ended = stream.next().await.expect("a status").expect_err("the stream ends");
    let details = ended.get_error_details();
    assert_eq!(details.error_info().expect("the gateway's own end, no cut").reason, "DRAINING");
}
