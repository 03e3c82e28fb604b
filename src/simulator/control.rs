//! The control endpoints: what tests in other processes use in place of the Rust API. JSON in, JSON out, no signature.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::AccessKey;
use super::faults::Fault;
use super::journal::CallJournal;
use super::refusal::Refusal;
use super::rules::WorldRules;
use super::server::Front;
use super::world::{EniStatus, Placement};
use super::world_file::WorldFile;

const INDEX: &str = "\
GET    /_simulator/books      what was written down: every call, each instance's occupancy
GET    /_simulator/world      instances, ENIs and rules as they stand, in the form of a world file
GET    /_simulator/faults     the faults that have not struck yet
POST   /_simulator/faults     one fault or a list: {\"action\": \"AttachNetworkInterface\", \"effect\": {\"kind\": \"drop_after\"}}
DELETE /_simulator/faults     forgets them
POST   /_simulator/foreign    moves an ENI past the API: {\"eni\": \"eni-0001\", \"instance\": \"i-stopped-1\", \"status\": \"InUse\"};
                              without an instance it is Available
POST   /_simulator/power      gives an instance any status: {\"instance\": \"i-stopped-1\", \"status\": \"Running\"}
POST   /_simulator/rules      changes the rules that are named: {\"lag_by_id\": \"3s\"}
POST   /_simulator/keys       replaces the keys: [{\"id\": \"…\", \"secret\": \"…\", \"token\": \"…\", \"state\": \"active\"}]
POST   /_simulator/reset      back to the beginning: world, books, faults
";

pub(super) fn router() -> Router<Front> {
    Router::new()
        .route("/_simulator/", get(async || INDEX))
        .route("/_simulator/books", get(books))
        .route("/_simulator/world", get(world))
        .route("/_simulator/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/_simulator/foreign", post(foreign))
        .route("/_simulator/power", post(power))
        .route("/_simulator/rules", post(rules))
        .route("/_simulator/keys", post(keys))
        .route("/_simulator/reset", post(reset))
        .route("/_simulator/{*unknown}", any(async || (StatusCode::NOT_FOUND, INDEX)))
}

async fn books(State(front): State<Front>) -> Json<CallJournal> {
    Json(front.cloud.books())
}

async fn world(State(front): State<Front>) -> Json<WorldFile> {
    Json(front.cloud.world(|world, _| world.snapshot()))
}

async fn faults(State(front): State<Front>) -> Json<Vec<Fault>> {
    Json(front.cloud.faults())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn add_faults(State(front): State<Front>, Json(faults): Json<OneOrMany>) -> Result<Json<Vec<Fault>>, Problem> {
    let values = match faults {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    };
    let faults = values
        .into_iter()
        .map(serde_json::from_value)
        .collect::<Result<Vec<Fault>, _>>()?;
    faults.into_iter().for_each(|fault| front.cloud.fault(fault));
    Ok(Json(front.cloud.faults()))
}

async fn clear_faults(State(front): State<Front>) {
    front.cloud.clear_faults();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Foreign {
    eni: String,
    instance: Option<String>,
    status: Option<EniStatus>,
}

async fn foreign(State(front): State<Front>, Json(wanted): Json<Foreign>) -> Result<(), Problem> {
    let usual = if wanted.instance.is_some() {
        EniStatus::InUse
    } else {
        EniStatus::Available
    };
    let placement = Placement {
        status: wanted.status.unwrap_or(usual),
        instance: wanted.instance,
    };
    Ok(front
        .cloud
        .world(|world, now| world.force(&wanted.eni, placement, now))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Power {
    instance: String,
    status: String,
}

async fn power(State(front): State<Front>, Json(wanted): Json<Power>) -> Result<(), Problem> {
    Ok(front
        .cloud
        .world(|world, now| world.force_status(&wanted.instance, &wanted.status, now))?)
}

async fn rules(State(front): State<Front>, Json(changes): Json<Value>) -> Result<Json<WorldRules>, Problem> {
    let rules = front.cloud.world(|world, _| {
        let mut rules = serde_json::to_value(world.rules())?;
        if let (Some(rules), Some(changes)) = (rules.as_object_mut(), changes.as_object()) {
            rules.extend(changes.clone());
        }
        let rules: WorldRules = serde_json::from_value(rules)?;
        world.set_rules(rules.clone());
        Ok::<_, serde_json::Error>(rules)
    })?;
    Ok(Json(rules))
}

async fn keys(State(front): State<Front>, Json(keys): Json<Vec<AccessKey>>) {
    front.cloud.set_keys(keys);
}

async fn reset(State(front): State<Front>) {
    front.cloud.reset();
}

/// Why a control call did nothing.
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
        (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": self.0 }))).into_response()
    }
}
