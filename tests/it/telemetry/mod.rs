//! Logs, traces over real OTLP/gRPC, and the admin listener over real HTTP.

mod admin;

mod logs;
mod names;
mod traces;

use std::io;
use std::sync::{Arc, Mutex};

use eni_gateway::telemetry::{LogFormat, Settings};
use tracing_subscriber::fmt::MakeWriter;

/// JSON lines, and callers that decide about their traces.
const JSON: Settings = Settings { format: LogFormat::Json, follow_sampling: true };

/// What was logged, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no holder panicked").clone();
        String::from_utf8(bytes).expect("logs are text")
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder panicked").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// An environment of these variables.
fn variables(pairs: &[(&'static str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    move |name| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
}
