//! Connections to the gateway, and their failures.

use std::io::Write as _;

use eni_gateway::grpc::proto::attachment::State;

use super::fake::{Fake, Script, attachment};
use super::run;

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    // Nothing listens there, and no test is given this port.
    let endpoint = "http://127.0.0.1:1";
    for command in [
        &["attach", "i-1", "eni-1"][..],
        &["get", "i-1", "eni-1"],
        &["list", "i-1"],
        &["watch", "i-1"],
    ] {
        let ran = run(&[command, &["--endpoint", endpoint]].concat()).await;
        assert_eq!(ran.code, 69, "{ran:?}");
        assert!(
            ran.stderr.starts_with(&format!("error: cannot reach the gateway at {endpoint}: ")),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("refused"), "{ran:?}");
    }
}

#[tokio::test]
async fn somebody_else_on_the_port_is_no_gateway() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let hang_up = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let ran = tokio::select! {
        ran = async { run(&["get", "i-1", "eni-1", "--endpoint", &endpoint]).await } => ran,
        () = hang_up => unreachable!(),
    };
    assert_eq!(ran.code, 69, "{ran:?}");
}

#[rstest::rstest]
#[case(&["--endpoint", "127.0.0.1:50051"], "must start with http:// or https://")]
#[case(&["--endpoint", "ftp://localhost"], "must start with http:// or https://")]
#[case(&["--endpoint", "http://localhost:1", "--ca", "/etc/hosts"], "need TLS")]
#[case(&["--endpoint", "https://localhost:1", "--ca", "/no/such/file"], "cannot read /no/such/file")]
#[case(&["--token-file", "/dev/null"], "/dev/null has no token")]
#[tokio::test]
async fn what_cannot_be_used_is_named(#[case] options: &[&str], #[case] problem: &str) {
    let ran = run(&[&["list", "i-1"], options].concat()).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.stderr.contains(problem), "{ran:?}");
}

#[tokio::test]
async fn a_token_is_never_repeated() {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"s3cr\x01et").unwrap();
    let ran = run(&["list", "i-1", "--token-file", token.path().to_str().unwrap()]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(!ran.stderr.contains("s3cr"), "{ran:?}");
}

#[tokio::test]
async fn errors_are_coloured_only_where_wanted() {
    let fake = Fake::serve(Script {
        list: std::iter::repeat_n(
            eni_gateway::grpc::proto::ListAttachmentsResponse {
                attachments: vec![attachment("eni-1", State::Attached, 7)],
                ..Default::default()
            },
            3,
        )
        .collect(),
        ..Script::default()
    })
    .await;
    let listed = async |variables: &[(&str, &str)]| {
        let mut command = super::eni_gateway(&["list", "i-1", "--endpoint", &fake.endpoint]);
        String::from_utf8(command.envs(variables.iter().copied()).output().await.unwrap().stdout)
            .unwrap()
    };
    assert!(!listed(&[]).await.contains('\x1b'), "no terminal");
    assert!(listed(&[("CLICOLOR_FORCE", "1")]).await.contains("\x1b[32mATTACHED"), "forced");
    assert!(!listed(&[("NO_COLOR", "1"), ("TERM", "xterm")]).await.contains('\x1b'), "forbidden");
}
