//! The control endpoints: the Rust API for tests in other processes. JSON without a signature, of
//! any content type; from other hosts with a key. Errors are JSON, too: `{"error": "…"}`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequest, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::auth::AccessKey;
use super::cloud::Cloud;
use super::connection::Cut;
use super::faults::Fault;
use super::journal::CallJournal;
use super::refusal::Refusal;
use super::rules::WorldRules;
use super::world::{EniStatus, Placement, WorldFile, status_fault};

const INDEX: &str = "\
GET    /_simulator/journal    the journal: every call, each instance's occupancy
GET    /_simulator/world      the current instances, ENIs and rules, as a world file
GET    /_simulator/faults     the pending faults
POST   /_simulator/faults     one fault or a list: {\"action\": \"AttachNetworkInterface\", \"effect\": {\"kind\": \"drop_after\"}}
DELETE /_simulator/faults     removes them
POST   /_simulator/external   moves an ENI outside the API: {\"eni\": \"eni-0001\", \"instance\": \"i-stopped-1\", \"status\": \"InUse\"};
                              without an instance it is Available
POST   /_simulator/power      sets an instance's status: {\"instance\": \"i-stopped-1\", \"status\": \"Running\"}
POST   /_simulator/rules      changes the named rules: {\"lag_by_id\": \"3s\"}
POST   /_simulator/keys       replaces the keys: [{\"id\": \"…\", \"secret\": \"…\", \"token\": \"…\", \"state\": \"active\"}]
POST   /_simulator/reset      restores the initial world, journal, faults and keys
";

pub(super) fn router<S: Clone + Send + Sync + 'static>(
    cloud: Cloud,
    key: Option<SecretString>,
) -> Router<S> {
    Router::new()
        .route("/_simulator/journal", get(journal))
        .route("/_simulator/world", get(world))
        .route("/_simulator/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/_simulator/external", post(external))
        .route("/_simulator/power", post(power))
        .route("/_simulator/rules", post(rules))
        .route("/_simulator/keys", post(keys))
        .route("/_simulator/reset", post(reset))
        .route("/_simulator/{*unknown}", any(unknown))
        .layer(middleware::from_fn_with_state(key.map(Arc::new), guard))
        // Probes of other hosts may read it.
        .route("/_simulator/", get(async || INDEX))
        .route("/_simulator", get(async || INDEX))
        .method_not_allowed_fallback(other_method)
        .with_state(cloud)
}

/// Refuses a call from another host without the key.
async fn guard(
    State(key): State<Option<Arc<SecretString>>>,
    ConnectInfo(Cut { peer, .. }): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if is_permitted(peer.ip(), given, key.as_deref()) {
        return next.run(request).await;
    }
    let error = "another host needs the key of --control-key, as `Authorization: Bearer KEY`";
    failed(StatusCode::UNAUTHORIZED, error)
}

fn is_permitted(peer: IpAddr, authorization: Option<&str>, key: Option<&SecretString>) -> bool {
    let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
    let has_key = key.is_some_and(|key| given == Some(key.expose_secret()));
    peer.to_canonical().is_loopback() || has_key
}

async fn unknown() -> Response {
    failed(StatusCode::NOT_FOUND, "no such endpoint; GET /_simulator/ lists them")
}

async fn other_method() -> Response {
    let error = "the endpoint has other methods; GET /_simulator/ lists them";
    failed(StatusCode::METHOD_NOT_ALLOWED, error)
}

fn failed(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// The body as JSON, whatever its content type says.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem(format!("the body cannot be read: {error}")))?;
        Ok(Self(serde_json::from_slice(&bytes)?))
    }
}

async fn journal(State(cloud): State<Cloud>) -> Json<CallJournal> {
    Json(cloud.journal())
}

async fn world(State(cloud): State<Cloud>) -> Json<WorldFile> {
    Json(cloud.world(|world, _| world.snapshot()))
}

async fn faults(State(cloud): State<Cloud>) -> Json<Vec<Fault>> {
    Json(cloud.faults())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn add_faults(
    State(cloud): State<Cloud>,
    Body(faults): Body<OneOrMany>,
) -> Result<Json<Vec<Fault>>, Problem> {
    let values = match faults {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    };
    let faults = values.into_iter().map(Fault::read).collect::<Result<Vec<_>, _>>();
    faults.map_err(Problem)?.into_iter().for_each(|fault| cloud.fault(fault));
    Ok(Json(cloud.faults()))
}

async fn clear_faults(State(cloud): State<Cloud>) {
    cloud.clear_faults();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalMove {
    eni: String,
    instance: Option<String>,
    status: Option<EniStatus>,
}

async fn external(
    State(cloud): State<Cloud>,
    Body(wanted): Body<ExternalMove>,
) -> Result<(), Problem> {
    let usual = if wanted.instance.is_some() { EniStatus::InUse } else { EniStatus::Available };
    let placement = Placement { status: wanted.status.unwrap_or(usual), instance: wanted.instance };
    Ok(cloud.world(|world, now| world.force(&wanted.eni, placement, now))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Power {
    instance: String,
    status: String,
}

async fn power(State(cloud): State<Cloud>, Body(wanted): Body<Power>) -> Result<(), Problem> {
    if let Some(fault) = status_fault(&wanted.status) {
        return Err(Problem(fault));
    }
    Ok(cloud.world(|world, now| world.force_status(&wanted.instance, &wanted.status, now))?)
}

async fn rules(
    State(cloud): State<Cloud>,
    Body(changes): Body<Map<String, Value>>,
) -> Result<Json<WorldRules>, Problem> {
    let rules = cloud.world(|world, _| {
        let mut rules = serde_json::to_value(world.rules())?;
        if let Some(rules) = rules.as_object_mut() {
            rules.extend(changes);
        }
        let rules: WorldRules = serde_json::from_value(rules)?;
        if let Some(fault) = rules.fault() {
            return Err(Problem(fault.to_owned()));
        }
        world.set_rules(rules.clone());
        Ok(rules)
    })?;
    Ok(Json(rules))
}

async fn keys(State(cloud): State<Cloud>, Body(keys): Body<Vec<AccessKey>>) -> Result<(), Problem> {
    let ids: BTreeSet<_> = keys.iter().map(|key| key.id.as_str()).collect();
    let problem = if keys.is_empty() {
        "the list of keys is empty, so every call would be refused; give one key or more"
    } else if ids.len() < keys.len() {
        "two keys have the same id; give each one its own"
    } else if keys.iter().any(AccessKey::has_gap) {
        "a key has an empty id or secret; give both"
    } else {
        cloud.set_keys(keys);
        return Ok(());
    };
    Err(Problem(problem.to_owned()))
}

async fn reset(State(cloud): State<Cloud>) {
    cloud.reset();
}

/// A failed control call.
struct Problem(String);

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.message.into_owned())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        failed(StatusCode::UNPROCESSABLE_ENTITY, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_host_needs_the_key() {
        let key = SecretString::from("hush");
        for (peer, authorization, key, permitted) in [
            ("127.0.0.1", None, None, true),
            ("::ffff:127.0.0.1", None, Some(&key), true),
            ("10.0.0.1", None, None, false),
            ("10.0.0.1", Some("Bearer "), None, false),
            ("10.0.0.1", None, Some(&key), false),
            ("10.0.0.1", Some("Bearer other"), Some(&key), false),
            ("10.0.0.1", Some("Bearer hush"), Some(&key), true),
        ] {
            let found = is_permitted(peer.parse().unwrap(), authorization, key);
            assert_eq!(found, permitted, "{peer} {authorization:?}");
        }
    }
}
