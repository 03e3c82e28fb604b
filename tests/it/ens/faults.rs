//! Under any network fault an Attach is sent once, and its outcome claims no more than is known.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use eni_gateway::ens::credentials::Credentials;
use eni_gateway::ens::signer;
use eni_gateway::ens::{Ens, Outcome};
use eni_gateway::rate_limit::{RateClass, RateLimitDecision, RateLimitRequest};
use rstest::rstest;
use tokio::net::TcpListener;

use super::server::{Act, Server, response};
use super::{client, client_of, eni, impatient, instance, settings};

const ACCEPTED: &str = r#"{"RequestId":"473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"}"#;

fn error(code: &str) -> String {
    format!(r#"{{"Code":"{code}","Message":"why","RequestId":"R-1","HostId":"ens.aliyuncs.com"}}"#)
}

#[tokio::test]
async fn an_attach_is_one_signed_post_without_a_body() {
    let server = Server::always(Act::Json(200, ACCEPTED.into())).await;
    let client = client(&server.url);
    let outcome = client.attach().await;
    assert_eq!(
        outcome,
        Outcome::Accepted { ens_request_id: "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E".into() }
    );

    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(request.line, "POST /?InstanceId=i-1&NetworkInterfaceId=eni-1 HTTP/1.1");
    assert_eq!(request.body, "");
    let header = |name: &str| {
        request.header(name).unwrap_or_else(|| panic!("no {name}: {request:?}")).to_owned()
    };
    assert_eq!(header("x-acs-action"), "AttachNetworkInterface");
    assert_eq!(header("x-acs-version"), "2017-11-10");
    assert_eq!(header("content-length"), "0");
    assert_eq!(header("accept"), "application/json");
    assert!(header("user-agent").starts_with("eni-gateway/"));
    assert_eq!(request.header("content-type"), None);
    assert_eq!(request.headers.iter().filter(|(name, _)| name == "host").count(), 1);

    // The signature covers what really arrived.
    let signed =
        "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";
    let headers: BTreeMap<&str, String> =
        signed.split(';').map(|name| (name, header(name))).collect();
    let expected = signer::authorization(
        "POST",
        "/",
        "InstanceId=i-1&NetworkInterfaceId=eni-1",
        headers.iter().map(|(name, value)| (*name, value.as_str())),
        &signer::hex_sha256(b""),
        Credentials::new("testAccessKeyId", "testAccessKeySecret").signing_key(),
    );
    assert_eq!(header("authorization"), expected);
    let report = client.calls.lock().unwrap()[0];
    assert_eq!((report.action.name(), report.outcome), ("AttachNetworkInterface", "ok"));
}

#[tokio::test]
async fn each_send_has_its_own_nonce_and_the_date_is_the_prepared_one() {
    let server = Server::always(Act::Json(200, ACCEPTED.into())).await;
    let client = client(&server.url);
    let prepared = client.ens.prepare().await.expect("ready");
    for _ in 0..2 {
        let permit = client.permit(RateClass::Attach).await;
        client.ens.attach(&prepared, permit, &instance("i-1"), &eni("eni-1")).await;
    }
    let requests = server.requests();
    assert_eq!(requests[0].header("x-acs-date"), requests[1].header("x-acs-date"));
    assert_ne!(
        requests[0].header("x-acs-signature-nonce"),
        requests[1].header("x-acs-signature-nonce")
    );
    assert_eq!(requests[0].header("x-acs-signature-nonce").map(str::len), Some(32));
}

#[rstest]
#[case::reset_before_a_byte(Act::Reset(String::new()))]
#[case::closed_before_a_byte(Act::Raw(String::new()))]
#[case::reset_in_the_head(Act::Reset("HTTP/1.1 200 OK\r\ncontent-le".into()))]
#[case::reset_in_the_body(Act::Reset("HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n{\"RequestId\":".into()))]
#[case::closed_in_the_body(Act::Raw("HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n{\"RequestId\":".into()))]
#[case::closed_in_a_refusal(Act::Raw("HTTP/1.1 400 X\r\ncontent-length: 99\r\n\r\n{\"Code\":\"InstanceNotFound\"".into()))]
#[case::no_answer(Act::Stall(String::new()))]
#[case::stall_in_the_body(Act::Stall("HTTP/1.1 200 OK\r\ncontent-length: 52\r\n\r\n{\"RequestId\":".into()))]
#[case::no_http(Act::Raw("SSH-2.0-OpenSSH_9.2\r\n".into()))]
#[case::bad_gateway(Act::Json(502, "<html>502 Bad Gateway</html>".into()))]
#[case::unavailable(Act::Json(503, error("ServiceUnavailable")))]
#[case::internal(Act::Json(500, error("InternalError")))]
#[case::html(Act::Json(200, "<html>Please log in</html>".into()))]
#[case::empty(Act::Json(200, String::new()))]
#[case::no_request_id(Act::Json(200, "{}".into()))]
#[case::catch_all(Act::Json(400, error("ens.interface.error")))]
#[case::nonce(Act::Json(400, error("SignatureNonceUsed")))]
#[case::redirect(Act::Raw(response(307, "location: /elsewhere\r\n", "")))]
#[case::see_other(Act::Raw(response(303, "location: /elsewhere\r\n", "")))]
#[case::misdirected(Act::Raw(response(421, "", "")))]
#[case::request_timeout(Act::Raw(response(408, "connection: close\r\n", "")))]
#[case::too_early(Act::Raw(response(425, "retry-after: 0\r\n", "")))]
#[tokio::test]
async fn what_settles_nothing_is_unanswered_and_sent_once(#[case] act: Act) {
    let server = Server::always(act).await;
    let client = client_of(impatient(&server.url));
    let outcome = client.attach().await;
    assert!(matches!(outcome, Outcome::Unanswered { .. }), "{outcome:?}");
    assert_eq!(server.count(), 1, "{:?}", server.requests());
    assert_eq!(client.calls.lock().unwrap()[0].outcome, "unanswered");
    assert_eq!(client.tokens.lock().unwrap().len(), 1, "the breaker receives nothing");
}

#[tokio::test]
async fn one_timeout_covers_an_answer_that_trickles_in() {
    let server =
        Server::always(Act::Stall("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into())).await;
    let settings = impatient(&server.url);
    let timeout = settings.attempt_timeout;
    let client = client_of(settings);
    let outcome = client.attach().await;
    let took = client.calls.lock().unwrap()[0].duration;
    assert!(
        matches!(&outcome, Outcome::Unanswered { why, .. } if why.contains("timed out")),
        "{outcome:?}"
    );
    // As early as that by the timeout alone; how late, a busy machine says.
    assert!(took >= timeout && took < timeout * 10, "{took:?}");
}

#[tokio::test]
async fn what_ens_said_is_kept_where_it_settles_nothing() {
    let server = Server::always(Act::Json(400, error("ens.interface.error"))).await;
    let Outcome::Unanswered { refusal: Some(refusal), .. } = client(&server.url).attach().await
    else {
        panic!("not unanswered");
    };
    assert_eq!(
        (refusal.code.as_str(), refusal.request_id.as_str()),
        ("ens.interface.error", "R-1")
    );
}

#[tokio::test]
async fn a_closed_port_is_not_sent() {
    // Nothing listens there, and no test is given this port.
    let outcome = client("http://127.0.0.1:1").attach().await;
    assert!(matches!(&outcome, Outcome::NotSent { why } if why.contains("refused")), "{outcome:?}");
}

#[tokio::test]
async fn an_unknown_host_is_not_sent() {
    let outcome = client("http://ens.invalid").attach().await;
    assert!(matches!(outcome, Outcome::NotSent { .. }), "{outcome:?}");
}

#[rstest]
#[case::no_tls(Act::Raw("HTTP/1.1 400 Bad Request\r\n\r\n".into()))]
#[case::reset(Act::Reset(String::new()))]
#[tokio::test]
async fn a_failed_tls_handshake_is_not_sent(#[case] act: Act) {
    // The client's hello holds no blank line, so that the server would wait for one: it acts on the
    // connection itself.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let handshake = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if let Act::Raw(bytes) = &act {
            tokio::io::AsyncWriteExt::write_all(&mut stream, bytes.as_bytes())
                .await
                .expect("written");
        }
    };
    let client = client(&url);
    let (outcome, ()) = tokio::join!(client.attach(), handshake);
    assert!(matches!(outcome, Outcome::NotSent { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_never_comes_about_is_not_sent() {
    // A full backlog: the kernel drops further SYNs.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("listening");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let _filling = [std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)), {
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
    }];
    let outcome = client_of(impatient(&format!("http://{address}"))).attach().await;
    assert!(matches!(outcome, Outcome::NotSent { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_pooled_connection_that_closes_under_an_attach_is_unanswered_and_not_repeated() {
    let server = Server::always(Act::ThenClose(200, ACCEPTED.into())).await;
    let client = client(&server.url);
    assert!(matches!(client.attach().await, Outcome::Accepted { .. }));
    let outcome = client.attach().await;
    assert!(matches!(outcome, Outcome::Unanswered { .. }), "{outcome:?}");
    assert_eq!((server.count(), server.connections.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn a_burst_over_closing_connections_sends_each_attach_once_at_most() {
    let server = Server::start(|_, number| match number % 3 {
        0 => Act::ThenClose(200, ACCEPTED.into()),
        1 => Act::Json(200, ACCEPTED.into()),
        _ => Act::Raw(response(200, "", ACCEPTED)),
    })
    .await;
    let client = client(&server.url);
    for round in 0..10 {
        let attaches = (0..8).map(|number| {
            let client = &client;
            async move {
                let prepared = client.ens.prepare().await.expect("ready");
                let permit = client.permit(RateClass::Attach).await;
                let (instance, eni) =
                    (instance(&format!("i-{round}")), eni(&format!("eni-{number}")));
                client.ens.attach(&prepared, permit, &instance, &eni).await
            }
        });
        for outcome in futures_util::future::join_all(attaches).await {
            assert!(
                matches!(outcome, Outcome::Accepted { .. } | Outcome::Unanswered { .. }),
                "{outcome:?}"
            );
        }
    }
    let mut lines: Vec<_> = server.requests().into_iter().map(|request| request.line).collect();
    lines.sort();
    let sent = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), sent, "an attach arrived twice");
}

#[rstest]
#[case::with_a_time(Some("1500"), Some(Duration::from_millis(1500)))]
#[case::without_a_time(None, None)]
#[case::with_a_long_time(Some("99999999"), Some(Duration::from_secs(120)))]
#[tokio::test]
async fn throttling_trips_the_breaker_and_a_success_closes_it(
    #[case] header: Option<&'static str>,
    #[case] expected: Option<Duration>,
) {
    let server = Server::start(move |_, number| match number {
        0 => {
            let header =
                header.map(|value| format!("x-acs-retry-after: {value}\r\n")).unwrap_or_default();
            Act::Raw(response(400, &header, &error("Throttling.User")))
        }
        _ => Act::Json(200, ACCEPTED.into()),
    })
    .await;
    let client = client(&server.url);
    let Outcome::Throttled { refusal, retry_after } = client.attach().await else {
        panic!("not throttled")
    };
    assert_eq!((refusal.code.as_str(), retry_after), ("Throttling.User", expected));
    assert!(client.limiter.breaker_open());
    client.attach().await;
    client.attach().await;
    let asked = client.tokens.lock().unwrap().clone();
    let [
        _,
        RateLimitRequest::Trip(RateClass::Attach, pause),
        _,
        RateLimitRequest::Close(RateClass::Attach),
        _,
    ] = asked[..]
    else {
        panic!("{asked:?}");
    };
    match expected {
        Some(expected) => assert_eq!(pause, expected),
        None => {
            assert!(pause >= Duration::from_secs(1) && pause < Duration::from_secs(2), "{pause:?}")
        }
    }
    assert_eq!(server.count(), 3);
}

/// A probe that ENS answers shows that the throttling is over, whatever the answer says. One that
/// is not answered shows nothing, and the next one is sent at once.
#[rstest]
#[case::refused(Act::Json(400, error("InstanceNotFound")), true)]
#[case::internal_error(Act::Json(500, error("InternalError")), true)]
#[case::catch_all(Act::Json(400, error("ens.interface.error")), true)]
#[case::html(Act::Json(502, "<html>Bad Gateway</html>".into()), false)]
#[case::reset(Act::Reset(String::new()), false)]
#[tokio::test]
async fn any_answer_to_a_probe_closes_the_breaker(#[case] act: Act, #[case] closes: bool) {
    let server = Server::always(act).await;
    let client = client(&server.url);
    client.decisions.lock().unwrap().push_back(RateLimitDecision::Probe);
    client.attach().await;
    let class = RateClass::Attach;
    let report = if closes {
        RateLimitRequest::Close(class)
    } else {
        RateLimitRequest::GiveBack { class, probe: true }
    };
    assert_eq!(client.tokens.lock().unwrap()[1..], [report]);
    assert_eq!(client.limiter.breaker_open(), !closes);
}

#[tokio::test]
async fn an_enforced_validity_sets_the_date_back() {
    let server = Server::always(Act::Json(200, ACCEPTED.into())).await;
    let mut settings = settings(&server.url);
    settings.enforce_validity = true;
    let client = client_of(settings);
    let before = jiff::Timestamp::now();
    client.attach().await;
    let after = jiff::Timestamp::now();
    let date: jiff::Timestamp =
        server.requests()[0].header("x-acs-date").expect("a date").parse().expect("a date");
    // 15 min less 30 s, and the 5 s by which clocks may differ; the date is in whole seconds.
    let back = jiff::SignedDuration::from_secs(15 * 60 - 25);
    let second = jiff::SignedDuration::from_secs(1);
    assert!((before - back - second..=after - back).contains(&date), "{date}");
}
