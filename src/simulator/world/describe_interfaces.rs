//! `DescribeNetworkInterfaces`: every filter must match, on the state that the visibility lag
//! allows.

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::eni::Eni;
use super::page::Page;
use super::{EniStatus, Params, Placement, Refusal, World};
use crate::simulator::rules::{InUse, Unattached, UnknownEni};

/// Maximum number of entries of a repeat list.
const MAX_LIST: usize = 100;

impl World {
    pub(super) fn describe_interfaces(
        &mut self,
        params: &Params,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let page = Page::of(params, self.rules.default_page_size, self.rules.max_page_size)?;
        let by_instance = params.get("InstanceId").is_some();
        let lag = if by_instance { self.rules.lag_by_instance } else { self.rules.lag_by_id };
        let lag = lag.draw(&mut self.rng);
        let filter = Filter::of(params)?;
        let seen: Vec<_> = self
            .candidates(params)?
            .into_iter()
            .map(|eni| (eni, eni.seen(now, lag)))
            .filter(|(eni, placement)| filter.passes(eni, placement))
            .collect();
        let rows: Vec<_> = page
            .cut(&seen)
            .iter()
            .map(|(eni, placement)| self.interface_row(eni, placement))
            .collect();
        Ok(json!({
            "PageNumber": page.number,
            "PageSize": page.size,
            "TotalCount": seen.len(),
            "NetworkInterfaceSets": { "NetworkInterfaceSet": rows },
        }))
    }

    /// The ENIs of the requested ids, or all, in the order of their ids.
    fn candidates(&self, params: &Params) -> Result<Vec<&Eni>, Refusal> {
        let one = params.get("NetworkInterfaceId");
        let many = params.list("NetworkInterfaceIds", MAX_LIST)?;
        let mut ids = match (one, many) {
            (None, None) => return Ok(self.enis.values().collect()),
            (Some(one), None) => vec![one],
            (None, Some(many)) => many,
            (Some(one), Some(many)) => many.into_iter().filter(|id| *id == one).collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        if self.rules.unknown_eni == UnknownEni::Error
            && ids.iter().any(|id| !self.enis.contains_key(*id))
        {
            return Err(Refusal::ENI_NOT_FOUND);
        }
        Ok(ids.into_iter().filter_map(|id| self.enis.get(id)).collect())
    }

    fn interface_row(&self, eni: &Eni, placement: &Placement) -> Value {
        let (ip, spec) = (address(&eni.spec.id), &eni.spec);
        let mut row = json!({
            "NetworkInterfaceId": spec.id,
            "NetworkInterfaceName": spec.id,
            "Description": "",
            "Status": match (&placement.status, self.rules.in_use) {
                (EniStatus::InUse, InUse::Example) => "In_use".to_owned(),
                (status, _) => status.to_string(),
            },
            "Type": spec.kind.name(),
            "EnsRegionId": spec.region,
            "NetworkId": spec.network,
            "VSwitchId": vswitch(&spec.network),
            "MacAddress": mac(&spec.id),
            "PrimaryIp": ip,
            "PrimaryIpType": "Private",
            "CreationTime": "2026-01-05T08:00:00Z",
            "VmncLearn": false,
            "SecurityGroupIds": { "SecurityGroup": [SECURITY_GROUP] },
            "PrivateIpSets": { "PrivateIpSet": [
                { "Primary": true, "PrivateIpAddress": ip, "PrivateIpStatus": "Available" },
            ] },
            "Ipv6Sets": { "Ipv6Set": [] },
        });
        let named = self.rules.attaching_names_instance || placement.status != EniStatus::Attaching;
        match (placement.instance.as_ref().filter(|_| named), self.rules.unattached) {
            (Some(instance), _) => row["InstanceId"] = Value::from(instance.as_str()),
            (None, Unattached::Empty) => row["InstanceId"] = Value::from(""),
            (None, Unattached::Absent) => {}
        }
        row
    }

    /// The ENIs of an instance in the form of `DescribeInstances`: all that use a slot, without
    /// status.
    pub(super) fn interfaces_of(
        &self,
        instance: &str,
        now: Instant,
        lag: std::time::Duration,
    ) -> Vec<Value> {
        let here = self.enis.values().filter(|eni| eni.seen(now, lag).occupies(instance));
        here.map(|eni| {
            let mut row = Map::new();
            let ip = address(&eni.spec.id);
            row.insert("NetworkInterfaceId".into(), json!(eni.spec.id));
            row.insert("MacAddress".into(), json!(mac(&eni.spec.id)));
            row.insert("PrimaryIpAddress".into(), json!(ip));
            row.insert("Type".into(), json!(eni.spec.kind.name()));
            row.insert(
                "PrivateIpSets".into(),
                json!({ "PrivateIpSet": [{ "Primary": true, "PrivateIpAddress": ip }] }),
            );
            Value::Object(row)
        })
        .collect()
    }
}

/// A field of a row that a filter may name.
type Field = fn(&Eni) -> String;

/// The filters besides the ids.
struct Filter<'a> {
    instance: Option<&'a str>,
    regions: Option<Vec<&'a str>>,
    ipv6: bool,
    status: Option<EniStatus>,
    exact: Vec<(Field, &'a str)>,
}

impl<'a> Filter<'a> {
    fn of(params: &'a Params) -> Result<Self, Refusal> {
        let fields: [(&str, Field); 7] = [
            ("EnsRegionId", |eni| eni.spec.region.clone()),
            ("NetworkId", |eni| eni.spec.network.clone()),
            ("VSwitchId", |eni| vswitch(&eni.spec.network)),
            ("SecurityGroupId", |_| SECURITY_GROUP.to_owned()),
            ("NetworkInterfaceName", |eni| eni.spec.id.clone()),
            ("PrimaryIpAddress", |eni| address(&eni.spec.id)),
            ("Type", |eni| eni.spec.kind.name().to_owned()),
        ];
        Ok(Self {
            instance: params.get("InstanceId"),
            regions: params.list("EnsRegionIds", MAX_LIST)?,
            ipv6: params.list("Ipv6Address", MAX_LIST)?.is_some(),
            status: params.get("Status").map(EniStatus::of),
            exact: fields
                .into_iter()
                .filter_map(|(name, field)| Some((field, params.get(name)?)))
                .collect(),
        })
    }

    fn passes(&self, eni: &Eni, placement: &Placement) -> bool {
        self.instance.is_none_or(|id| placement.instance.as_deref() == Some(id))
            && self.regions.as_ref().is_none_or(|regions| regions.contains(&eni.spec.region.as_str()))
            // No ENI of this world has an IPv6 address.
            && !self.ipv6
            && self.status.as_ref().is_none_or(|status| *status == placement.status)
            && self.exact.iter().all(|(field, wanted)| field(eni) == *wanted)
    }
}

const SECURITY_GROUP: &str = "sg-5w0qd03adw-main";

/// The vswitch of a network.
pub(super) fn vswitch(network: &str) -> String {
    format!("vsw-{}", network.trim_start_matches("n-"))
}

/// An address derived from the id; rarely another's.
pub(super) fn address(id: &str) -> String {
    let [.., b, c, d] = digest(id);
    format!("10.{b}.{c}.{d}")
}

fn mac(id: &str) -> String {
    let [.., b, c, d] = digest(id);
    format!("00:16:3e:{b:02x}:{c:02x}:{d:02x}")
}

/// FNV-1a.
fn digest(id: &str) -> [u8; 4] {
    id.bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
        .to_be_bytes()
}
