//! Why a command did not do what it was asked.

use std::io::{self, Write as _};

use serde_json::json;

use super::Exit;
use super::coverage::Coverage;
use super::output::{ERROR, paint};
use super::refusal::Refusal;
use crate::app::check::CheckFailure;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The arguments, or a file that they name, are no good.
    #[error("{0}")]
    Usage(String),
    /// No connection.
    #[error(
        "cannot reach the gateway at {endpoint}: {cause}\n  what to do: check --endpoint, and whether the gateway runs there"
    )]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What the connection failed with.
        cause: String,
    },
    /// The gateway said no, or the attachment failed.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// `--timeout` struck while watching.
    #[error("not at its end within the --timeout\n  what to do: watch again with --after-revision {after}")]
    Unfinished {
        /// Everything up to here was shown.
        after: u64,
    },
    /// What was printed is what the gateway knows, and ENS could not be asked for the rest.
    #[error(
        "the list may be incomplete: {0}; attachments that others made since may be missing\n  what to do: try again"
    )]
    Incomplete(Coverage),
    /// What a command other than a client needs does not answer.
    #[error("{0}")]
    NotReached(String),
    /// `check` found something that does not work, and has said it.
    #[error("not everything works")]
    CheckFailed(CheckFailure),
    /// It could not be run, or broke.
    #[error("{0}")]
    Failed(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status.into()))
    }
}

impl Error {
    /// It could not be run, for this reason and its causes.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self::Failed(text)
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(refusal) => refusal.exit(),
            Self::Unfinished { .. } | Self::Incomplete(_) => Exit::TryAgain,
            Self::Failed(_) => Exit::Refused,
            Self::NotReached(_) => Exit::Unreachable,
            Self::CheckFailed(failure) => match failure {
                CheckFailure::Configuration => Exit::Usage,
                CheckFailure::Unreachable => Exit::Unreachable,
                CheckFailure::NotAllowed => Exit::NotAllowed,
                CheckFailure::Other => Exit::Refused,
            },
            // `eni-gateway list … | head` is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Refused,
        }
    }

    /// Says it on stderr, as text or as one JSON object, and returns what to exit with.
    pub(super) fn report(&self, as_json: bool) -> Exit {
        let exit = self.exit();
        if exit == Exit::Done {
            return exit;
        }
        // Where stderr is closed, the exit code has to do.
        let _ = if as_json {
            let error = match self {
                Self::Refused(refusal) => refusal.to_json(),
                Self::Incomplete(coverage) => {
                    let mut error = coverage.to_json();
                    error["message"] = self.to_string().into();
                    error
                }
                other => json!({"message": other.to_string()}),
            };
            writeln!(io::stderr(), "{}", json!({"error": error}))
        } else {
            writeln!(anstream::stderr(), "{} {self}", paint(ERROR, "error:"))
        };
        exit
    }
}
