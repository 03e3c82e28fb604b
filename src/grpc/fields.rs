//! The bad fields of a request.

use std::collections::BTreeSet;
use std::str::FromStr;

use uuid::Uuid;

use super::page::ALL_INSTANCES;
use super::proto as pb;
use crate::model::ids::InvalidId;
use crate::model::{Failure, InstanceId, Reason, RequestId, State};

/// Collects the bad fields.
#[derive(Default)]
pub(super) struct Fields {
    bad: Vec<(String, String)>,
}

impl Fields {
    /// An id.
    pub(super) fn id<T: FromStr<Err = InvalidId>>(&mut self, name: &str, text: &str) -> Option<T> {
        self.check(name, text.parse())
    }

    /// The one instance that a request is about. Only a list takes all of them (AIP-159).
    pub(super) fn instance(&mut self, text: &str) -> Option<InstanceId> {
        let name = "instance_id";
        if text == ALL_INSTANCES {
            return self.check(name, Err("must name one instance; only ListAttachments takes '-'"));
        }
        self.id(name, text)
    }

    /// A list of 1 to `most` ids, each once.
    pub(super) fn ids<T>(&mut self, name: &str, texts: &[String], most: usize) -> Option<Vec<T>>
    where
        T: FromStr<Err = InvalidId> + Ord + Clone,
    {
        if texts.is_empty() || texts.len() > most {
            self.check(name, Err::<(), _>(format!("must have 1 to {most} ids")));
        }
        let mut seen = BTreeSet::new();
        let ids = texts.iter().take(most).enumerate().map(|(index, text)| {
            let name = format!("{name}[{index}]");
            let id: Option<T> = self.id(&name, text);
            let is_new = id.as_ref().is_none_or(|id| seen.insert(id.clone()));
            self.check(&name, is_new.then_some(()).ok_or("must be in the list once"))?;
            id
        });
        // Every bad id is named.
        let ids: Vec<_> = ids.collect();
        ids.into_iter().collect()
    }

    /// An optional request id.
    pub(super) fn request_id(&mut self, text: &str) -> Option<RequestId> {
        match text {
            "" => None,
            text => self.check("request_id", uuid(text)).map(RequestId),
        }
    }

    /// A parsed field.
    pub(super) fn check<T, P: ToString>(&mut self, name: &str, parsed: Result<T, P>) -> Option<T> {
        parsed.map_err(|problem| self.bad.push((name.to_owned(), problem.to_string()))).ok()
    }

    /// The states of a filter. An unknown one is a fault.
    pub(super) fn states(&mut self, numbers: &[i32]) -> Vec<State> {
        let known = numbers.iter().enumerate().filter_map(|(index, number)| {
            let state = pb::attachment::State::try_from(*number).ok();
            let state = state.and_then(pb::attachment::State::known);
            self.check(&format!("states[{index}]"), state.ok_or("must be a known state"))
        });
        known.collect()
    }

    /// The parsed request, or every bad field. `whole` may return `None` only if a field was bad.
    pub(super) fn finish<T>(self, whole: impl FnOnce() -> Option<T>) -> Result<T, Failure> {
        match whole() {
            Some(request) if self.bad.is_empty() => Ok(request),
            _ => {
                let sentences: Vec<String> =
                    self.bad.iter().map(|(name, problem)| format!("{name} {problem}")).collect();
                let mut failure = Failure::new(Reason::InvalidField, sentences.join("; "));
                failure.fields = self.bad;
                Err(failure)
            }
        }
    }
}

fn uuid(text: &str) -> Result<Uuid, &'static str> {
    // `Uuid` also parses braces, "urn:uuid:" and 32 bare digits. The API takes only the usual form.
    match Uuid::try_parse(text) {
        Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH && !id.is_nil() => Ok(id),
        _ => Err("must be a hyphenated UUID other than the nil one"),
    }
}
