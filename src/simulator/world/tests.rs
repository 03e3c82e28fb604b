//! ENS's rules, one by one, in virtual time.

use serde_json::Value;

use super::*;
use crate::simulator::duration_range::DurationRange;
use crate::simulator::rules::{InUse, Unattached, UnknownEni};

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    world: World,
    start: Instant,
}

impl Case {
    fn new(file: WorldFile) -> Self {
        let world = World::new(file);
        Self { start: world.began, world }
    }

    fn with(change: impl FnOnce(&mut WorldFile)) -> Self {
        let mut file = WorldFile::simple(&["i-1", "i-2"], 12);
        change(&mut file);
        Self::new(file)
    }

    fn call(&mut self, at: u32, action: Action, params: &[(&str, &str)]) -> Result<Value, String> {
        let params = Params::from_iter(params.iter().copied());
        let reply = self.world.handle(action, &params, self.start + at * SECOND);
        reply.outcome.map_err(|refusal| refusal.code.into_owned())
    }

    fn attach(&mut self, at: u32, instance: &str, eni: &str) -> Result<(), String> {
        let params = [("InstanceId", instance), ("NetworkInterfaceId", eni)];
        self.call(at, Action::AttachNetworkInterface, &params).map(drop)
    }

    fn detach(&mut self, at: u32, eni: &str) -> Result<(), String> {
        self.call(at, Action::DetachNetworkInterface, &[("NetworkInterfaceId", eni)]).map(drop)
    }

    fn rows(&mut self, at: u32, params: &[(&str, &str)]) -> Vec<Value> {
        let answer = self.call(at, Action::DescribeNetworkInterfaces, params).unwrap();
        answer["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap().clone()
    }

    fn row(&mut self, at: u32, eni: &str) -> Value {
        self.rows(at, &[("NetworkInterfaceId", eni)]).remove(0)
    }

    fn secondaries(&mut self, at: u32, instance: &str) -> usize {
        self.rows(at, &[("InstanceId", instance), ("Type", "Secondary")]).len()
    }
}

fn refused(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

#[test]
fn an_attach_goes_from_available_through_attaching_to_in_use() {
    let mut case = Case::with(|_| {});
    assert!(case.row(0, "eni-0001").get("InstanceId").is_none());
    case.attach(1, "i-1", "eni-0001").unwrap();
    let attaching = case.row(2, "eni-0001");
    assert_eq!(
        (&attaching["Status"], &attaching["InstanceId"]),
        (&"Attaching".into(), &"i-1".into())
    );
    assert_eq!(case.row(3, "eni-0001")["Status"], "InUse");
    case.detach(4, "eni-0001").unwrap();
    assert_eq!(case.row(5, "eni-0001")["Status"], "Detaching");
    assert_eq!(case.row(6, "eni-0001")["Status"], "Available");
}

#[test]
fn every_refusal_of_an_attach_has_its_documented_code() {
    let mut case = Case::new(WorldFile::default_world());
    for (instance, eni, code) in [
        ("", "eni-0001", "InvalidParameter.InstanceId"),
        ("i-stopped-1", "", "InvalidParameter.NetworkInterfaceId"),
        ("i-nowhere", "eni-0001", "InstanceNotFound"),
        ("i-forbidden", "eni-0001", "NoPermission"),
        ("i-stopped-1", "eni-nowhere", "InvalidEniId.NotFound"),
        ("i-stopped-1", "eni-service-managed", "InvalidParameter.EniServiceManaged"),
        ("i-stopped-1", "eni-primary-i-running", "InvalidOperation.InvalidEniType"),
        ("i-stopped-1", "eni-full-01", "InvalidOperation.InvalidEniStatus"),
        ("i-running", "eni-0001", "InvalidOperation.InvalidEnsStatus"),
        ("i-unsupported", "eni-0001", "InvalidOperation.InstanceNotSupport"),
        ("i-other-network", "eni-0001", "InvalidOperation.NetworkMismatch"),
        ("i-full", "eni-0001", "EniPerInstanceLimitExceeded"),
    ] {
        assert_eq!(case.attach(0, instance, eni), refused(code), "{instance} {eni}");
    }
    assert!(case.world.journal().applied.is_empty());
    case.attach(0, "i-nearly-full", "eni-0001").unwrap();
    assert_eq!(case.attach(0, "i-nearly-full", "eni-0002"), refused("EniPerInstanceLimitExceeded"));
}

#[test]
fn every_refusal_of_a_detach_has_its_documented_code() {
    let mut case = Case::new(WorldFile::default_world());
    for (eni, code) in [
        ("", "InvalidParameter.NetworkInterfaceId"),
        ("eni-nowhere", "InvalidEniId.NotFound"),
        ("eni-service-managed", "InvalidParameter.EniServiceManaged"),
        ("eni-primary-i-running", "InvalidOperation.InvalidEniType"),
        ("eni-0001", "InvalidOperation.InvalidEniStatus"),
    ] {
        assert_eq!(case.detach(0, eni), refused(code), "{eni}");
    }
    case.world.force_status("i-full", RUNNING, case.start).unwrap();
    assert_eq!(case.detach(0, "eni-full-01"), refused("InvalidOperation.InvalidEnsStatus"));
}

#[test]
fn the_limit_counts_what_attaches_and_detaches_and_is_kept_in_the_journal_if_it_is_not_enforced() {
    let fill = |case: &mut Case| {
        (1..=12).filter(|n| case.attach(0, "i-1", &format!("eni-{n:04}")).is_ok()).count()
    };
    let mut strict = Case::with(|_| {});
    assert_eq!(fill(&mut strict), 10);
    strict.detach(3, "eni-0001").unwrap();
    assert_eq!(strict.attach(3, "i-1", "eni-0011"), refused("EniPerInstanceLimitExceeded"));
    strict.attach(5, "i-1", "eni-0011").unwrap();
    assert_eq!(strict.world.journal().instance("i-1").max_occupied, 10);
    assert_eq!(strict.world.journal().instance("i-1").applied, 11);

    let mut counting = Case::with(|file| file.rules.count_primary = true);
    assert_eq!(fill(&mut counting), 9);

    let mut lax = Case::with(|file| file.rules.enforce_limit = false);
    assert_eq!(fill(&mut lax), 12);
    assert_eq!(lax.world.journal().instance("i-1").max_occupied, 12);
}

#[test]
fn each_kind_of_describe_has_a_lag_of_its_own() {
    let mut case = Case::with(|file| {
        file.rules.lag_by_id = DurationRange::fixed(SECOND);
        file.rules.lag_by_instance = DurationRange::fixed(4 * SECOND);
    });
    case.attach(0, "i-1", "eni-0001").unwrap();
    assert_eq!(case.row(0, "eni-0001")["Status"], "Available");
    assert_eq!(case.row(1, "eni-0001")["Status"], "Attaching");
    assert_eq!(case.row(3, "eni-0001")["Status"], "InUse");
    assert_eq!(case.secondaries(3, "i-1"), 0);
    assert_eq!(case.secondaries(4, "i-1"), 1);
    assert_eq!(
        case.rows(4, &[("InstanceId", "i-1"), ("Status", "InUse")]).len(),
        1,
        "the primary alone"
    );
}

#[test]
fn an_accepted_attach_may_fail_and_holds_its_place_until_then() {
    let mut case = Case::with(|_| {});
    let params = Params::from_iter([("InstanceId", "i-1"), ("NetworkInterfaceId", "eni-0001")]);
    case.world.handle_attach(&params, Course::Fails, case.start).outcome.unwrap();
    assert_eq!(case.row(1, "eni-0001")["Status"], "Attaching");
    assert_eq!(case.row(2, "eni-0001")["Status"], "Available");
    let steps: Vec<_> = case
        .world
        .journal()
        .instance("i-1")
        .occupancy
        .iter()
        .map(|s| (s.at_ms, s.occupied))
        .collect();
    assert_eq!(steps, [(0, 0), (0, 1), (2000, 0)]);
}

#[test]
fn a_late_attach_takes_effect_at_its_time_if_the_rules_then_allow() {
    let mut case = Case::with(|_| {});
    case.world.attach_at("i-1", "eni-0001", case.start + 3 * SECOND);
    case.world.attach_at("i-2", "eni-0001", case.start + 4 * SECOND);
    assert_eq!(case.row(2, "eni-0001")["Status"], "Available");
    let row = case.row(9, "eni-0001");
    assert_eq!((&row["Status"], &row["InstanceId"]), (&"InUse".into(), &"i-1".into()));
    assert_eq!(case.world.journal().applied_to("eni-0001"), 1);
}

#[test]
fn an_external_change_ends_what_was_in_flight() {
    let mut case = Case::with(|_| {});
    case.attach(0, "i-1", "eni-0001").unwrap();
    case.world
        .force("eni-0001", Placement::on(EniStatus::InUse, "i-2"), case.start + SECOND)
        .unwrap();
    assert_eq!(case.row(5, "eni-0001")["InstanceId"], "i-2");
    assert_eq!((case.world.occupied("i-1"), case.world.occupied("i-2")), (0, 1));
    assert!(case.world.force("eni-nowhere", Placement::default(), case.start).is_err());
}

#[test]
fn the_open_points_of_the_documents_are_switches() {
    let mut case = Case::with(|file| {
        file.rules.in_use = InUse::Example;
        file.rules.unattached = Unattached::Empty;
        file.rules.unknown_eni = UnknownEni::Error;
        file.rules.attaching_names_instance = false;
    });
    assert_eq!(case.row(0, "eni-0001")["InstanceId"], "");
    case.attach(0, "i-1", "eni-0001").unwrap();
    assert_eq!(case.row(1, "eni-0001")["InstanceId"], "");
    assert_eq!(case.row(2, "eni-0001")["Status"], "In_use");
    let ids = [("NetworkInterfaceIds.1", "eni-0001"), ("NetworkInterfaceIds.2", "eni-nowhere")];
    assert_eq!(
        case.call(2, Action::DescribeNetworkInterfaces, &ids),
        Err("InvalidEniId.NotFound".to_owned())
    );

    let mut usual = Case::with(|_| {});
    assert_eq!(usual.rows(0, &ids).len(), 1);
}

#[test]
fn pages_have_a_default_and_a_maximum_and_say_so() {
    let mut case = Case::new(WorldFile::simple(&["i-1"], 120));
    let mut page = |params: &[(&str, &str)]| {
        let answer = case.call(0, Action::DescribeNetworkInterfaces, params).unwrap();
        let rows = answer["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap().len();
        (rows, answer["PageSize"].as_u64().unwrap(), answer["TotalCount"].as_u64().unwrap())
    };
    assert_eq!(page(&[("Status", "Available")]), (10, 10, 120));
    assert_eq!(page(&[("Status", "Available"), ("PageSize", "100")]), (50, 50, 120));
    assert_eq!(
        page(&[("Status", "Available"), ("PageSize", "50"), ("PageNumber", "3")]),
        (20, 50, 120)
    );
    assert_eq!(page(&[("PageSize", "50"), ("PageNumber", "9")]).0, 0);
    for bad in [("PageSize", "0"), ("PageNumber", "-1"), ("PageSize", "many")] {
        assert!(case.call(0, Action::DescribeNetworkInterfaces, &[bad]).is_err());
    }
}

#[test]
fn filters_of_a_describe_must_all_match() {
    let mut case = Case::with(|_| {});
    case.attach(0, "i-1", "eni-0001").unwrap();
    let id = ("NetworkInterfaceId", "eni-0001");
    assert_eq!(case.rows(3, &[id, ("InstanceId", "i-1"), ("Status", "InUse")]).len(), 1);
    for other in
        [("InstanceId", "i-2"), ("Status", "Available"), ("Type", "Primary"), ("NetworkId", "n-x")]
    {
        assert!(case.rows(3, &[id, other]).is_empty(), "{other:?}");
    }
}

#[test]
fn instances_are_described_with_their_interfaces_and_stop_and_start() {
    let mut case = Case::with(|_| {});
    let describe = |case: &mut Case, at, params: &[(&str, &str)]| {
        let answer = case.call(at, Action::DescribeInstances, params).unwrap();
        answer["Instances"]["Instance"].as_array().unwrap().clone()
    };
    case.attach(0, "i-1", "eni-0001").unwrap();
    let rows = describe(&mut case, 3, &[("InstanceIds", r#"["i-1","i-9"]"#)]);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["NetworkInterfaces"]["NetworkInterfaces"].as_array().unwrap().len(), 2);
    assert!(describe(&mut case, 3, &[("InstanceIds", "[]")]).is_empty());

    let id = [("InstanceId", "i-1")];
    case.call(4, Action::StartInstance, &id).unwrap();
    assert_eq!(describe(&mut case, 4, &id)[0]["Status"], "Starting");
    assert_eq!(case.detach(4, "eni-0001"), refused("InvalidOperation.InvalidEnsStatus"));
    assert_eq!(describe(&mut case, 5, &id)[0]["Status"], "Running");
    case.call(6, Action::StopInstance, &id).unwrap();
    assert_eq!(describe(&mut case, 7, &id)[0]["Status"], "Stopped");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || {
        let mut case = Case::with(|file| file.rules.attach_time = "1s..9s".parse().unwrap());
        case.attach(0, "i-1", "eni-0001").unwrap();
        case.attach(0, "i-1", "eni-0002").unwrap();
        let statuses: Vec<_> =
            (0..10).map(|at| (case.row(at, "eni-0001"), case.row(at, "eni-0002"))).collect();
        (statuses, case.world.reply(Ok(accepted())).request_id)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_reset_brings_back_the_beginning() {
    let mut case = Case::with(|_| {});
    let before = case.world.snapshot();
    case.attach(0, "i-1", "eni-0001").unwrap();
    assert_ne!(case.world.snapshot(), before);
    case.world.reset();
    assert_eq!(case.world.snapshot(), before);
    assert_eq!(case.world.journal().instance("i-1").max_occupied, 0);
}
