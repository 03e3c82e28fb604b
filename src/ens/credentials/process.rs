//! Credentials that a program prints, as in the mode `External` of the CLI's profiles.

use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Credentials, FetchError};

/// Time limit for the program.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Process {
    words: Vec<String>,
}

/// What it prints.
#[derive(Deserialize)]
struct Printed {
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    access_key_secret: String,
    #[serde(default)]
    sts_token: String,
    expiration: Option<Expiration>,
}

/// A time, or seconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum Expiration {
    Seconds(i64),
    Time(Timestamp),
}

impl Process {
    /// The program of a command line with a shell's quotes.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        match shlex::split(line) {
            Some(words) if !words.is_empty() => Ok(Self { words }),
            Some(_) => Err("process_command is empty".to_owned()),
            None => Err("process_command has an open quote".to_owned()),
        }
    }

    /// The program, without its arguments, which may hold a secret.
    pub(super) fn name(&self) -> &str {
        &self.words[0]
    }

    pub(super) async fn fetch(&self) -> Result<Credentials, FetchError> {
        let fetched = self.run().await;
        fetched.map_err(|error| error.at(format_args!("the program {:?}", self.name())))
    }

    async fn run(&self) -> Result<Credentials, FetchError> {
        let running = Command::new(self.name())
            .args(&self.words[1..])
            .stdin(Stdio::null())
            // It may hold secrets.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ran = timeout(TIMEOUT, running)
            .await
            .map_err(|_| FetchError::passing(format!("did not end within {TIMEOUT:?}")))?
            .map_err(|error| FetchError::lasting(format!("cannot be run: {error}")))?;
        if !ran.status.success() {
            // It may have asked a service that is away.
            return Err(FetchError::passing(format!("ended with {}", ran.status)));
        }
        // serde's message may quote the input, which holds secrets.
        let printed: Printed = serde_json::from_slice(&ran.stdout)
            .map_err(|_| FetchError::lasting("did not print the JSON of credentials"))?;
        printed.credentials()
    }
}

impl Printed {
    fn credentials(self) -> Result<Credentials, FetchError> {
        if self.access_key_id.is_empty() || self.access_key_secret.is_empty() {
            return Err(FetchError::lasting("printed no access_key_id or no access_key_secret"));
        }
        let mut credentials = Credentials::new(self.access_key_id, self.access_key_secret);
        if !self.sts_token.is_empty() {
            credentials = credentials.with_token(self.sts_token);
        }
        let expiration = match self.expiration {
            None | Some(Expiration::Seconds(..=0)) => None,
            Some(Expiration::Seconds(seconds)) => Timestamp::from_second(seconds).ok(),
            Some(Expiration::Time(time)) => Some(time),
        };
        Ok(match expiration {
            Some(expiration) => credentials.until(expiration),
            None => credentials,
        })
    }
}
