//! `demo`: what a newcomer sees.

use std::net::TcpListener;

use super::{eni_gateway, run};

#[tokio::test]
async fn twelve_callers_fill_ten_slots_before_your_eyes() {
    let ran = run(&["demo", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.matches(" ATTACHED ").count(), 10, "{}", ran.stdout);
    assert_eq!(
        ran.stdout.matches("REFUSED    ENI_LIMIT_EXCEEDED").count(),
        2,
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("As promised: 10 attached, 2 refused, never above 10."),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains('\u{1b}') && ran.stderr.is_empty(), "{ran:?}");
}

#[tokio::test]
async fn other_numbers_hold_too_and_no_environment_disturbs_it() {
    let mut demo = eni_gateway(&["demo", "--listen", "127.0.0.1:0", "--callers", "5", "--slots", "3"]);
    demo.env("ENI_GATEWAY_NONSENSE__AT_ALL", "x")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "someone-else");
    let ran: super::Ran = demo.output().await.unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout
            .contains("As promised: 3 attached, 2 refused, never above 3."),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_port_in_use_and_nonsense_numbers_are_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = run(&["demo", "--listen", &taken.local_addr().unwrap().to_string()]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("--listen 127.0.0.1:0 takes a free port"),
        "{}",
        ran.stderr
    );
    assert_eq!(run(&["demo", "--slots", "0"]).await.code, 64);
    assert_eq!(run(&["demo", "--callers", "many"]).await.code, 64);
}
