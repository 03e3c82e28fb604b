//! Each call is a client span with its outcome, and without secrets.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::client;
use super::server::{Act, Server};

type Fields = Arc<Mutex<BTreeMap<String, String>>>;

/// Writes down the fields of the calls' spans.
struct Capture(Fields);

struct Visitor<'a>(&'a Fields);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.lock().unwrap().insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().unwrap().insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "ens.call" {
            attributes.record(&mut Visitor(&self.0));
        }
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut Visitor(&self.0));
    }
}

#[rstest]
#[case::accepted(200, r#"{"RequestId":"R-1"}"#, Some("R-1"), None)]
#[case::refused(
    400,
    r#"{"Code":"NoPermission","RequestId":"R-2"}"#,
    Some("R-2"),
    Some("NoPermission")
)]
#[case::gateway(502, "<html>", None, Some("body"))]
#[tokio::test]
async fn a_span_says_what_came_of_the_call(
    #[case] status: u16,
    #[case] body: &str,
    #[case] request_id: Option<&str>,
    #[case] error: Option<&str>,
) {
    let fields = Fields::default();
    let subscriber = tracing_subscriber::registry().with(Capture(fields.clone()));
    let _default = tracing::subscriber::set_default(subscriber);
    let server = Server::always(Act::Json(status, body.to_owned())).await;
    client(&server.url).attach().await;

    let fields = fields.lock().unwrap().clone();
    let field = |name: &str| fields.get(name).map(String::as_str);
    assert_eq!(field("otel.kind"), Some("client"));
    assert_eq!(field("otel.name"), Some("AttachNetworkInterface"));
    assert_eq!(field("http.request.method"), Some("POST"));
    assert_eq!(field("server.address"), Some("127.0.0.1"));
    assert_eq!(field("http.response.status_code"), Some(status.to_string().as_str()));
    assert_eq!(
        (field("eni_gateway.ens.request_id"), field("error.type")),
        (request_id, error),
        "{fields:?}"
    );
    assert_eq!(field("otel.status_code"), error.map(|_| "ERROR"));
    assert!(!format!("{fields:?}").contains("testAccessKeySecret"));
}
