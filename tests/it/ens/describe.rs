//! Describes: requests, paging, and rejected answers.

use std::time::Duration;

use eni_gateway::ens::{DescribeError, EniStatus, Ens};
use eni_gateway::model::InstanceId;
use eni_gateway::rate_limit::{RateClass, RateLimitDecision};
use rstest::rstest;
use serde_json::{Value, json};

use super::server::{Act, Request, Server};
use super::{client, client_of, eni, impatient, instance};

fn row(number: usize) -> Value {
    json!({"NetworkInterfaceId": format!("eni-{number}"), "Status": "InUse", "InstanceId": "i-1", "Type": "Secondary"})
}

fn page(rows: Vec<Value>, total: usize) -> Act {
    let body = json!({
        "RequestId": "R", "PageNumber": 1, "PageSize": 50, "TotalCount": total,
        "NetworkInterfaceSets": {"NetworkInterfaceSet": rows},
    });
    Act::Json(200, body.to_string())
}

/// Shows the rows `0..total` in pages of `size`, whatever was asked for.
fn pages_of(size: usize, total: usize) -> impl Fn(&Request, usize) -> Act + Send + Sync {
    move |request, _| {
        let number: usize =
            request.parameter("PageNumber").and_then(|number| number.parse().ok()).unwrap_or(1);
        page(((number - 1) * size..(number * size).min(total)).map(row).collect(), total)
    }
}

#[tokio::test]
async fn an_instance_is_asked_for_page_by_page_each_with_its_own_permit() {
    let server = Server::start(pages_of(50, 120)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Track).await;
    let rows = client.ens.interfaces_of(permit, &instance("i-1")).await.expect("all rows");
    assert_eq!(rows.len(), 120);
    let requests = server.requests();
    let numbers: Vec<_> = requests
        .iter()
        .map(|request| request.parameter("PageNumber").unwrap_or_default())
        .collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    for request in &requests {
        assert_eq!(request.header("x-acs-action"), Some("DescribeNetworkInterfaces"));
        assert_eq!(request.parameter("PageSize").as_deref(), Some("50"));
        assert_eq!(request.parameter("InstanceId").as_deref(), Some("i-1"));
    }
    assert_eq!(client.taken(), 3);
}

#[tokio::test]
async fn a_server_with_smaller_pages_is_read_to_the_end() {
    let server = Server::start(pages_of(10, 11)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    assert_eq!(
        client.ens.interfaces_of(permit, &instance("i-1")).await.expect("all rows").len(),
        11
    );
    assert_eq!(server.count(), 2);
}

/// An attach describes under its instance's lock: it continues with what is there, or ends.
#[tokio::test]
async fn an_attachs_describe_waits_for_no_further_permit() {
    let server = Server::start(pages_of(10, 25)).await;
    let client = client(&server.url);
    let granted = RateLimitDecision::Granted;
    // A describe of a reader would wait that long.
    let later = RateLimitDecision::Wait(Duration::from_secs(10));
    client.decisions.lock().unwrap().extend([granted, granted, later]);
    let permit = client.permit(RateClass::Describe).await;
    let got = client.ens.interfaces_of(permit, &instance("i-1")).await;
    assert!(matches!(got, Err(DescribeError::NoPermit { calls: 3, .. })), "{got:?}");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_permit_for_several_calls_is_enough_for_as_many_pages() {
    let server = Server::start(pages_of(10, 25)).await;
    let client = client(&server.url);
    let mut permit = client.limiter.hold(client.permit(RateClass::Describe).await);
    for _ in 1..3 {
        permit.add(client.limiter.hold(client.permit(RateClass::Describe).await));
    }
    let rows = client.ens.interfaces_of(permit.spend(), &instance("i-1")).await.expect("all rows");
    assert_eq!((rows.len(), server.count(), client.taken()), (25, 3, 3));
}

#[rstest]
#[case::shortfall(vec![(0..10, 11), (0..0, 11)])]
#[case::duplicate(vec![(0..10, 12), (9..11, 12)])]
#[case::duplicate_on_a_page(vec![(0..0, 0), (0..0, 0)])]
#[case::count_changed(vec![(0..10, 11), (10..12, 12)])]
#[case::more_than_counted(vec![(0..3, 2)])]
#[case::endless(vec![(0..1, 1000)])]
#[tokio::test]
async fn pages_that_do_not_make_up_the_whole_are_no_observation(
    #[case] pages: Vec<(std::ops::Range<usize>, usize)>,
) {
    let server = Server::start(move |_, number| {
        let Some((rows, total)) = pages.get(number).cloned() else {
            return page(vec![row(number + 10_000)], 1000);
        };
        match total {
            0 => page(vec![row(1), row(1)], 2),
            _ => page(rows.map(row).collect(), total),
        }
    })
    .await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    assert_eq!(
        client.ens.interfaces_of(permit, &instance("i-1")).await,
        Err(DescribeError::Incomplete)
    );
    assert!(server.count() <= 20);
}

#[tokio::test]
async fn an_answer_without_a_count_is_none() {
    let body = json!({"RequestId": "R", "NetworkInterfaceSets": {"NetworkInterfaceSet": [row(1)]}})
        .to_string();
    let server = Server::always(Act::Json(200, body)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    let got = client.ens.interfaces_of(permit, &instance("i-1")).await;
    assert!(
        matches!(&got, Err(DescribeError::Unavailable(why)) if why.contains("TotalCount")),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_fault_on_a_later_page_fails_the_whole() {
    let server = Server::start(|_, number| match number {
        0 => page((0..50).map(row).collect(), 60),
        _ => Act::Json(502, "<html>".into()),
    })
    .await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    let got = client.ens.interfaces_of(permit, &instance("i-1")).await;
    assert!(matches!(got, Err(DescribeError::Unavailable(_))), "{got:?}");
}

#[rstest]
#[case("InUse")]
#[case("In_use")]
#[tokio::test]
async fn both_spellings_of_in_use_are_one(#[case] spelling: &str) {
    let row = json!({"NetworkInterfaceId": "eni-1", "Status": spelling, "InstanceId": "i-1", "Type": "Primary"});
    let server = Server::always(page(vec![row], 1)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    let rows = client.ens.interfaces(permit, &[eni("eni-1")]).await.expect("rows");
    assert_eq!(
        (rows[0].status, rows[0].status_text.as_str(), rows[0].primary),
        (EniStatus::InUse, spelling, true)
    );
}

#[tokio::test]
async fn rows_that_were_not_asked_for_are_dropped() {
    let elsewhere = json!({"NetworkInterfaceId": "eni-9", "Status": "InUse", "InstanceId": "i-2"});
    let nowhere = json!({"NetworkInterfaceId": "eni-8", "Status": "Attaching"});
    let server = Server::always(page(vec![row(1), elsewhere, nowhere], 3)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Describe).await;
    let rows = client.ens.interfaces_of(permit, &instance("i-1")).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.eni.as_str()).collect::<Vec<_>>(), ["eni-1", "eni-8"]);
    let permit = client.permit(RateClass::Describe).await;
    let rows = client.ens.interfaces(permit, &[eni("eni-9")]).await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.eni.as_str()).collect::<Vec<_>>(), ["eni-9"]);
}

#[tokio::test]
async fn fifty_ids_are_one_call_and_none_is_no_call() {
    let server = Server::start(|request, _| {
        let ids: Vec<_> = (1..=60)
            .map_while(|n| request.parameter(&format!("NetworkInterfaceIds.{n}")))
            .collect();
        let rows: Vec<_> =
            ids.iter().map(|id| json!({"NetworkInterfaceId": id, "Status": "Available"})).collect();
        page(rows.clone(), rows.len())
    })
    .await;
    let client = client(&server.url);
    let ids: Vec<_> = (0..50).map(|number| eni(&format!("eni-{number}"))).collect();
    let permit = client.permit(RateClass::Track).await;
    assert_eq!(client.ens.interfaces(permit, &ids).await.expect("rows").len(), 50);
    let permit = client.permit(RateClass::Track).await;
    assert_eq!(client.ens.interfaces(permit, &[]).await, Ok(vec![]));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn an_unknown_id_is_distinguished_from_other_refusals() {
    let body = |code: &str| json!({"Code": code, "Message": "m", "RequestId": "R"}).to_string();
    let codes = ["InvalidEniId.NotFound", "NoPermission", "Throttling", "InternalError"];
    let server = Server::start(move |_, number| Act::Json(400, body(codes[number]))).await;
    let client = client(&server.url);
    let mut got = Vec::new();
    for _ in codes {
        let permit = client.permit(RateClass::Track).await;
        got.push(client.ens.interfaces(permit, &[eni("eni-1")]).await.expect_err("a refusal"));
    }
    let [unknown, refused, throttled, internal] = &got[..] else { panic!("{got:?}") };
    assert!(matches!(unknown, DescribeError::UnknownId(_)), "{unknown:?}");
    assert!(
        matches!(refused, DescribeError::Refused(refusal) if refusal.code == "NoPermission"),
        "{refused:?}"
    );
    assert!(
        matches!(throttled, DescribeError::Throttled { retry_after: None, .. }),
        "{throttled:?}"
    );
    assert!(matches!(internal, DescribeError::Unavailable(_)), "{internal:?}");
}

#[tokio::test]
async fn instances_are_asked_for_by_a_json_array() {
    let server = Server::start(|_, number| match number {
        0 => Act::Json(200, json!({
            "RequestId": "R", "Code": 0, "TotalCount": 1,
            "Instances": {"Instance": [{"InstanceId": "i-1", "Status": "Stopped", "NetworkAttributes": {"NetworkId": "n-1"}}]},
        }).to_string()),
        1 => Act::Json(200, json!({"RequestId": "R", "Code": 0, "Instances": {"Instance": []}}).to_string()),
        _ => Act::Json(400, json!({"RequestId": "R", "Code": "InstanceNotFound"}).to_string()),
    })
    .await;
    let client = client(&server.url);
    let ask = async |ids: &[InstanceId]| {
        let permit = client.permit(RateClass::Describe).await;
        client.ens.instances(permit, ids).await
    };
    let one = [instance("i-1")];
    let found = ask(&one).await.expect("an answer").remove(0);
    assert_eq!((found.status.as_str(), found.network.as_str()), ("Stopped", "n-1"));
    for _ in 0..2 {
        assert_eq!(ask(&one).await, Ok(Vec::new()));
    }
    let both = ask(&["i-2", "i-1"].map(instance)).await;
    assert!(matches!(both, Err(DescribeError::UnknownId(_))), "either may be it: {both:?}");
    let requests = server.requests();
    let lists = [0, 3].map(|index| requests[index].parameter("InstanceIds"));
    assert_eq!(
        lists.each_ref().map(Option::as_deref),
        [Some(r#"["i-1"]"#), Some(r#"["i-1","i-2"]"#)]
    );
    assert_eq!(requests[3].parameter("PageSize").as_deref(), Some("100"));
}

#[tokio::test]
async fn a_describe_without_an_answer_is_unavailable() {
    let server = Server::always(Act::Stall(String::new())).await;
    let client = client_of(impatient(&server.url));
    let permit = client.permit(RateClass::Describe).await;
    let got = client.ens.interfaces(permit, &[eni("eni-1")]).await;
    assert!(matches!(got, Err(DescribeError::Unavailable(_))), "{got:?}");
}

#[tokio::test]
async fn ids_that_were_all_shown_need_no_count_and_others_do() {
    let server = Server::always(page(vec![row(1)], 7)).await;
    let client = client(&server.url);
    let permit = client.permit(RateClass::Track).await;
    assert_eq!(client.ens.interfaces(permit, &[eni("eni-1")]).await.expect("the row").len(), 1);
    assert_eq!(server.count(), 1);
    let permit = client.permit(RateClass::Track).await;
    let got = client.ens.interfaces(permit, &[eni("eni-1"), eni("eni-2")]).await;
    assert_eq!(got, Err(DescribeError::Incomplete), "eni-2 is not gone, it was not shown");
}
