//! The HTTP server: the OpenAPI on `/`, the control endpoints on `/_simulator/`.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cloud::{Answer, Cloud};
use super::connection::{ConnectionListener, Cut};
use super::control;
use super::reply::HttpReply;
use super::settings::Settings;
use super::world::World;

/// The simulator as a server.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Serves this world at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(
        address: SocketAddr,
        world: World,
        settings: Settings,
    ) -> io::Result<Handle> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let control_key = settings.control_key.clone();
        let cloud = Cloud::new(world, settings);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let front = Front { cloud: cloud.clone(), tasks: tasks.clone(), stop: stop.clone() };
        let service = router(front, control_key).into_make_service_with_connect_info::<Cut>();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            axum::serve(ConnectionListener(listener), service).with_graceful_shutdown(stopped).await
        });
        Ok(Handle { cloud, address, stop, tasks })
    }
}

/// A running simulator and its cloud. Dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    cloud: Cloud,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Handle {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, for `ens.endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it and waits for its end. Delayed calls are reset.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Deref for Handle {
    type Target = Cloud;
    fn deref(&self) -> &Cloud {
        &self.cloud
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// State of the handlers.
#[derive(Clone)]
struct Front {
    cloud: Cloud,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn router(front: Front, control_key: Option<SecretString>) -> Router {
    control::router(front.cloud.clone(), control_key)
        .fallback(open_api)
        .layer(middleware::from_fn_with_state(front.clone(), date))
        .with_state(front)
}

/// Adds ENS's time to every answer.
async fn date(State(front): State<Front>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(date) = HeaderValue::from_str(&front.cloud.date()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// Runs the call in its own task, because ENS completes the call of a disconnected caller.
async fn open_api(State(front): State<Front>, cut: ConnectInfo<Cut>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let cloud = front.cloud.clone();
    let call = front.tasks.spawn(async move {
        front
            .stop
            .run_until_cancelled_owned(async move { cloud.receive(&parts, &body).await })
            .await
    });
    match call.await {
        Ok(Some(answer)) => respond(answer, &cut.0),
        Ok(None) | Err(_) => respond(Answer::Reset, &cut.0),
    }
}

fn respond(answer: Answer, cut: &Cut) -> Response {
    match answer {
        Answer::Reply(reply) => json(&reply, Body::from),
        Answer::Truncated(reply) => json(&reply, half),
        Answer::Html(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let page = format!(
                "<html><body><center><h1>{status}</h1></center><hr>Tengine</body></html>\n"
            );
            (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
        }
        Answer::NotJson => {
            ([(header::CONTENT_TYPE, "application/json")], "upstream says: all is well\n")
                .into_response()
        }
        Answer::Reset => {
            cut.throw();
            Response::new(Body::empty())
        }
    }
}

fn json(reply: &HttpReply, body: impl FnOnce(Bytes) -> Body) -> Response {
    let text = reply.body().to_string();
    let mut response = Response::builder()
        .status(reply.status())
        .header(header::CONTENT_TYPE, "application/json;charset=utf-8")
        .header(header::CONTENT_LENGTH, text.len())
        .header("x-acs-request-id", &reply.request_id);
    let retry_after = reply.outcome.as_ref().err().and_then(|refusal| refusal.retry_after);
    if let Some(delay) = retry_after {
        response = response.header("x-acs-retry-after", delay.as_millis().max(1).to_string());
    }
    // Only a fault with an invalid status can fail here.
    response
        .body(body(Bytes::from(text)))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The first half of the body, then an error, which ends the connection.
fn half(body: Bytes) -> Body {
    let part = body.slice(..body.len() / 2);
    let broken = Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    Body::from_stream(futures_util::stream::iter([Ok(part), broken]))
}
