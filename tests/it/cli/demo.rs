//! The output of `demo`.

use std::net::TcpListener;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{eni_gateway, run};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::test]
async fn twelve_callers_fill_ten_slots_before_your_eyes() {
    let ran = run(&["demo", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.matches(" ATTACHED ").count(), 10, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("REFUSED    ENI_LIMIT_EXCEEDED").count(), 2, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("All guarantees held: 10 attached, 2 refused, never above 10."),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains('\u{1b}') && ran.stderr.is_empty(), "{ran:?}");
}

#[tokio::test]
async fn other_numbers_hold_too_and_no_environment_disturbs_it() {
    let mut demo =
        eni_gateway(&["demo", "--listen", "127.0.0.1:0", "--callers", "5", "--slots", "3"]);
    demo.env("ENI_GATEWAY_NONSENSE__AT_ALL", "x")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "someone-else");
    let ran: super::Ran = demo.output().await.unwrap().into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stdout.contains("All guarantees held: 3 attached, 2 refused, never above 3."),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_port_in_use_and_nonsense_numbers_are_said() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = run(&["demo", "--listen", &taken.local_addr().unwrap().to_string()]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("--listen 127.0.0.1:0 takes a free port"), "{}", ran.stderr);
    assert_eq!(run(&["demo", "--slots", "0"]).await.code, 64);
    assert_eq!(run(&["demo", "--callers", "many"]).await.code, 64);
}

/// A running demo, and its lines.
struct Kept {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Kept {
    fn start(options: &[&str]) -> Self {
        let arguments = [&["demo", "--keep", "--listen", "127.0.0.1:0"], options].concat();
        let mut process = eni_gateway(&arguments).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Reads on to the line that has these words.
    async fn line_with(&mut self, words: &str) -> String {
        let read = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it continues");
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect(words)
    }

    /// Ctrl-C; what it ended with.
    async fn interrupt(mut self) -> (Option<i32>, String) {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
        // Its output is read to the end, so that it never waits for a reader.
        while self.lines.next_line().await.unwrap().is_some() {}
        let ended = tokio::time::timeout(PATIENCE, self.process.wait_with_output());
        let ended = ended.await.expect("it ends").unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    }
}

#[tokio::test]
async fn with_keep_the_commands_that_it_names_work_until_ctrl_c() {
    let mut demo = Kept::start(&[]);
    demo.line_with("It continues to serve").await;
    let mut tried = Vec::new();
    for (command, code) in [("list", 0), ("get", 0), ("attach", 0), ("attach", 1)] {
        let line = demo.line_with(&format!("/eni-gateway {command} ")).await;
        // The binary itself is known.
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        let ran = run(&words).await;
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        tried.push(ran);
    }
    assert_eq!(tried[0].stdout.matches("ATTACHED").count(), 10, "{}", tried[0].stdout);
    assert!(tried[3].stderr.contains("ENI_LIMIT_EXCEEDED"), "{}", tried[3].stderr);
    demo.line_with("Ctrl-C ends it").await;
    assert_eq!(demo.interrupt().await, (Some(0), String::new()));
}

#[tokio::test]
async fn interrupted_before_its_end_it_promises_nothing() {
    // So many that it lasts.
    let mut demo = Kept::start(&["--callers", "200", "--slots", "100"]);
    demo.line_with("calling").await;
    let (code, said) = demo.interrupt().await;
    assert_eq!((code, said.as_str()), (Some(1), "error: interrupted before the end\n"));
}
