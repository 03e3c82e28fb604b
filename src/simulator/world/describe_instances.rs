//! `DescribeInstances`. Its lists are JSON arrays in a string, not repeat lists.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::describe_interfaces::{address, vswitch};
use super::page::Page;
use super::{Instance, Params, Refusal, World};

/// Maximum number of entries of a list, and of rows on a page.
const MAX: usize = 100;
/// Default number of rows on a page.
const DEFAULT_PAGE_SIZE: usize = 10;

impl World {
    pub(super) fn describe_instances(
        &mut self,
        params: &Params,
        now: Instant,
    ) -> Result<Value, Refusal> {
        let page = Page::of(params, DEFAULT_PAGE_SIZE, MAX)?;
        let ids = params.json_list("InstanceIds", MAX)?;
        let regions = params.json_list("EnsRegionIds", MAX)?;
        let lag = self.rules.lag_by_instance.draw(&mut self.rng);
        let is = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
        let found: Vec<&Instance> = self
            .instances
            .values()
            .filter(|instance| is("InstanceId", &instance.id) && is("InstanceName", &instance.id))
            .filter(|instance| ids.as_ref().is_none_or(|ids| ids.contains(&instance.id)))
            .filter(|instance| {
                is("EnsRegionId", &instance.region) && is("NetworkId", &instance.network)
            })
            .filter(|instance| {
                regions.as_ref().is_none_or(|regions| regions.contains(&instance.region))
            })
            .filter(|instance| {
                is("VSwitchId", &vswitch(&instance.network)) && is("Status", &instance.status)
            })
            .collect();
        let rows: Vec<_> = page
            .cut(&found)
            .iter()
            .map(|instance| instance_row(instance, self.interfaces_of(&instance.id, now, lag)))
            .collect();
        Ok(json!({
            "Code": 0,
            "PageNumber": page.number,
            "PageSize": page.size,
            "TotalCount": found.len(),
            "Instances": { "Instance": rows },
        }))
    }
}

fn instance_row(instance: &Instance, interfaces: Vec<Value>) -> Value {
    let ip = address(&instance.id);
    json!({
        "InstanceId": instance.id,
        "InstanceName": instance.id,
        "HostName": instance.id,
        "Status": instance.status,
        "ServiceStatus": "Normal",
        "EnsRegionId": instance.region,
        "InstanceTypeFamily": "EnsInstance",
        "SpecName": "ens.sn1.small",
        "Cpu": "2",
        "Memory": 4096,
        "CreationTime": "2026-01-05T08:00:00Z",
        "ExpiredTime": "2099-01-05T08:00:00Z",
        "NetworkAttributes": {
            "NetworkId": instance.network,
            "VSwitchId": vswitch(&instance.network),
            "PrivateIpAddress": { "IpAddress": [ip] },
        },
        "NetworkInterfaces": { "NetworkInterfaces": interfaces },
        "SecurityGroupIds": { "SecurityGroupId": ["sg-5w0qd03adw-main"] },
    })
}
