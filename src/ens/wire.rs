//! ENS's JSON. Reading is tolerant of spellings, on which documents and examples disagree, and of
//! unknown fields. It is strict about ids and the number of rows.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{EniStatus, EnsRefusal, InstanceRow, Row};
use crate::model::{InstanceId, InterfaceId};

/// Maximum length of ENS's texts in records and errors, in characters.
const MAX_TEXT: usize = 512;

/// A reason why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has another shape.
    #[error("the answer differs from its documented form: {0}")]
    Shape(String),
    /// It holds an invalid id.
    #[error("the answer has an invalid id: it {0}")]
    Id(#[from] crate::model::ids::InvalidId),
    /// It does not give the number of rows.
    #[error("the answer has no TotalCount")]
    NoTotal,
}

/// One page of `DescribeNetworkInterfaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacesPage {
    /// Number of rows of all pages.
    pub total: usize,
    /// The rows of this page.
    pub rows: Vec<Row>,
}

/// `Code`, `Message` and `RequestId` of any answer, in either case; empty if absent. A `Code` that
/// is no text counts as absent: `DescribeInstances` answers with the number 0.
#[must_use]
pub fn refusal(answer: &Value) -> EnsRefusal {
    EnsRefusal {
        code: text(answer, &["Code", "code"]),
        message: text(answer, &["Message", "message"]),
        request_id: text(answer, &["RequestId", "requestId", "RequestID"]),
    }
}

fn text(answer: &Value, names: &[&str]) -> String {
    let found = names.iter().find_map(|name| answer.get(name)?.as_str()).unwrap_or_default();
    kept(found)
}

/// The part of a text that records, errors and logs keep.
fn kept(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Reads one page of `DescribeNetworkInterfaces`.
///
/// # Errors
/// [`Unreadable`]; no part of the page counts.
pub fn interfaces(answer: Value) -> Result<InterfacesPage, Unreadable> {
    let page: Interfaces = shape(answer)?;
    let total = page.total_count.ok_or(Unreadable::NoTotal)?;
    let rows =
        page.network_interface_sets.unwrap_or_default().network_interface_set.unwrap_or_default();
    Ok(InterfacesPage {
        total,
        rows: rows.into_iter().map(Interface::row).collect::<Result<_, _>>()?,
    })
}

/// Reads `DescribeInstances`.
///
/// # Errors
/// [`Unreadable`]: the answer has another shape.
pub fn instances(answer: Value) -> Result<Vec<InstanceRow>, Unreadable> {
    let page: Instances = shape(answer)?;
    let rows = page
        .instances
        .ok_or_else(|| Unreadable::Shape("no Instances".into()))?
        .instance
        .unwrap_or_default();
    rows.into_iter().map(Instance::row).collect()
}

fn shape<T: for<'a> Deserialize<'a>>(answer: Value) -> Result<T, Unreadable> {
    // The error quotes the answer.
    serde_json::from_value(answer).map_err(|error| Unreadable::Shape(kept(&error.to_string())))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Interfaces {
    #[serde(default, deserialize_with = "count")]
    total_count: Option<usize>,
    network_interface_sets: Option<InterfaceSets>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct InterfaceSets {
    network_interface_set: Option<Vec<Interface>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    #[serde(default)]
    network_interface_id: String,
    status: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    instance_id: Option<String>,
    network_id: Option<String>,
}

impl Interface {
    fn row(self) -> Result<Row, Unreadable> {
        let status_text = kept(&self.status.unwrap_or_default());
        Ok(Row {
            eni: self.network_interface_id.parse::<InterfaceId>()?,
            status: EniStatus::parse(&status_text),
            status_text,
            instance: self
                .instance_id
                .filter(|id| !id.is_empty())
                .map(|id| id.parse())
                .transpose()?,
            primary: self.kind.is_some_and(|kind| kind.eq_ignore_ascii_case("primary")),
            network: kept(&self.network_id.unwrap_or_default()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instances {
    instances: Option<InstanceSet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceSet {
    instance: Option<Vec<Instance>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    #[serde(default)]
    instance_id: String,
    status: Option<String>,
    network_attributes: Option<NetworkAttributes>,
}

impl Instance {
    fn row(self) -> Result<InstanceRow, Unreadable> {
        let network = self.network_attributes.and_then(|network| network.network_id);
        Ok(InstanceRow {
            instance: self.instance_id.parse::<InstanceId>()?,
            status: kept(&self.status.unwrap_or_default()),
            network: kept(&network.unwrap_or_default()),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkAttributes {
    network_id: Option<String>,
}

/// A count, as a number or as its digits.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64().and_then(|count| usize::try_from(count).ok()),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn page(row: Value) -> Value {
        json!({"RequestId": "R", "TotalCount": 1, "NetworkInterfaceSets": {"NetworkInterfaceSet": [row]}})
    }

    #[rstest]
    #[case::absent(json!({"NetworkInterfaceId": "eni-1", "Status": "Available"}))]
    #[case::null(json!({"NetworkInterfaceId": "eni-1", "Status": "Available", "InstanceId": null, "Type": null}))]
    #[case::empty(json!({"NetworkInterfaceId": "eni-1", "Status": "Available", "InstanceId": "", "NetworkId": ""}))]
    fn an_eni_that_is_free_has_no_instance(#[case] row: Value) {
        let read = interfaces(page(row)).expect("a page");
        assert_eq!(read.total, 1);
        let row = &read.rows[0];
        assert_eq!(
            (row.status, &row.instance, row.primary, row.network.as_str()),
            (EniStatus::Available, &None, false, "")
        );
    }

    #[rstest]
    #[case("InUse", EniStatus::InUse)]
    #[case("In_use", EniStatus::InUse)]
    #[case("in_use", EniStatus::InUse)]
    #[case("Attaching", EniStatus::Attaching)]
    #[case("Quarantined", EniStatus::Other)]
    #[case("", EniStatus::Other)]
    fn a_status_is_read_and_kept_verbatim(#[case] text: &str, #[case] status: EniStatus) {
        let row = json!({"NetworkInterfaceId": "eni-1", "Status": text, "InstanceId": "i-1", "Type": "primary"});
        let read = interfaces(page(row)).expect("a page");
        assert_eq!((read.rows[0].status, read.rows[0].status_text.as_str()), (status, text));
        assert!(read.rows[0].primary);
        assert_eq!(read.rows[0].instance.as_ref().map(InstanceId::as_str), Some("i-1"));
    }

    #[test]
    fn an_empty_set_may_be_written_in_any_way() {
        for empty in [
            json!({"NetworkInterfaceSet": []}),
            json!({"NetworkInterfaceSet": null}),
            json!({}),
            Value::Null,
        ] {
            let read = interfaces(json!({"TotalCount": "0", "NetworkInterfaceSets": empty}))
                .expect("a page");
            assert_eq!(read, InterfacesPage { total: 0, rows: vec![] });
        }
    }

    #[test]
    fn a_page_without_a_count_or_with_a_bad_id_is_none() {
        assert_eq!(interfaces(json!({"RequestId": "R"})), Err(Unreadable::NoTotal));
        assert!(matches!(interfaces(page(json!({"Status": "InUse"}))), Err(Unreadable::Id(_))));
        let bad_instance =
            json!({"NetworkInterfaceId": "eni-1", "Status": "InUse", "InstanceId": "i 1"});
        assert!(matches!(interfaces(page(bad_instance)), Err(Unreadable::Id(_))));
        assert!(matches!(interfaces(json!([])), Err(Unreadable::Shape(_))));
    }

    #[test]
    fn instances_have_their_ids() {
        let row = |id: &str, status: &str, network: &str| InstanceRow {
            instance: id.parse().expect("an id"),
            status: status.to_owned(),
            network: network.to_owned(),
        };
        let answer = json!({"Code": 0, "Instances": {"Instance": [
            {"InstanceId": "i-0", "Status": "Running"},
            {"InstanceId": "i-1", "Status": "Stopped", "NetworkAttributes": {"NetworkId": "n-1"}},
        ]}});
        let found = instances(answer).expect("an answer");
        assert_eq!(found, [row("i-0", "Running", ""), row("i-1", "Stopped", "n-1")]);
        assert_eq!(instances(json!({"Instances": {"Instance": []}})), Ok(Vec::new()));
        for (answer, why) in [
            (json!({"Code": 0}), "an answer without Instances is no answer"),
            (json!({"Instances": {"Instance": [{"Status": "Running"}]}}), "it has no id"),
        ] {
            assert!(instances(answer).is_err(), "{why}");
        }
    }

    #[test]
    fn an_error_is_read_in_both_spellings_and_stripped() {
        let upper = refusal(&json!({"Code": "C", "Message": "M", "RequestId": "R"}));
        let lower = refusal(&json!({"code": "C", "message": "M", "requestId": "R"}));
        assert_eq!(upper, lower);
        assert_eq!(
            upper,
            EnsRefusal { code: "C".into(), message: "M".into(), request_id: "R".into() }
        );
        assert_eq!(refusal(&json!({"Code": 0, "Message": "a\nb"})).code, "");
        assert_eq!(refusal(&json!({"Message": "a\nb"})).message, "a b");
        assert_eq!(refusal(&json!({"Message": "x".repeat(9_999)})).message.len(), MAX_TEXT);
    }

    #[test]
    fn every_text_is_stripped_and_cut() {
        let long = format!("a\n{}", "x".repeat(9_999));
        let row = json!({"NetworkInterfaceId": "eni-1", "Status": long, "NetworkId": long});
        let row = interfaces(page(row)).expect("a page").rows.remove(0);
        let answer = json!({"Instances": {"Instance": [
            {"InstanceId": "i-1", "Status": long, "NetworkAttributes": {"NetworkId": long}},
        ]}});
        let found = instances(answer).expect("an answer").remove(0);
        for text in [row.status_text, row.network, found.status, found.network] {
            assert!(text.starts_with("a x") && text.len() == MAX_TEXT, "{text}");
        }
    }

    #[test]
    fn why_an_answer_cannot_be_read_is_short() {
        let answer = json!({"NetworkInterfaceSets": "x".repeat(9_999)});
        let problem = interfaces(answer).expect_err("a text is no set").to_string();
        assert!(problem.len() < MAX_TEXT + 100, "{problem}");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                let _ = (refusal(&value), interfaces(value.clone()), instances(value));
            }
        }
    }
}
