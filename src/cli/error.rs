//! Errors of commands.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde_json::json;

use super::Exit;
use super::coverage::Coverage;
use super::refusal::Refusal;
use super::style::{ERROR, paint, wrap_error};
use crate::app::check::CheckFailure;
use crate::app::explain::LedgerAccessError;
use crate::app::with_causes;

/// An error that ends a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The arguments, or a file that they name, are invalid.
    #[error("{0}")]
    Usage(String),
    /// No connection.
    #[error("cannot reach the gateway at {endpoint}: {cause}\n  what to do: {remedy}")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// The cause.
        cause: String,
        /// The remedy.
        remedy: String,
    },
    /// The gateway refused, or the attachment failed.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// `--timeout` passed during a watch.
    #[error("not at its end within --timeout\n  what to do: watch again with {resume}")]
    Unfinished {
        /// The flag that continues from what was shown.
        resume: String,
    },
    /// The output is the gateway's state, and ENS could not be described.
    #[error(
        "the list may be incomplete: {0}; external attachments since then may be missing\n  what \
         to do: try again"
    )]
    Incomplete(Coverage),
    /// The output lacks instances whose records cannot be read.
    #[error(
        "the list is incomplete: the gateway cannot read the records of some instances\n  what to \
         do: try again, which may reach another replica; the gateway's log names the instances"
    )]
    IncompleteFleet,
    /// A server that the command needs is unreachable. Not for client commands.
    #[error("{0}")]
    NotReached(String),
    /// `check` printed a failure.
    #[error("some checks failed")]
    CheckFailed(CheckFailure),
    /// The command could not run, or failed.
    #[error("{0}")]
    Failed(String),
    /// The command failed, and its log has the error.
    #[error("the log has the error")]
    Logged(Exit),
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
    /// A command that failed, with the error's causes.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(with_causes(error))
    }

    /// The ledger at this URL cannot be reached.
    pub(super) fn ledger_not_reached(url: impl Display, error: impl Display) -> Self {
        Self::NotReached(format!(
            "{url}: {error}\n  what to do: check ledger.url, and whether redis runs there and \
             admits this machine"
        ))
    }

    /// A command could not use the ledger at this URL.
    pub(super) fn of_ledger(url: impl Display, error: LedgerAccessError) -> Self {
        match error {
            LedgerAccessError::Memory => Self::Usage(error.to_string()),
            error if error.is_unreachable() => Self::ledger_not_reached(url, error),
            error @ LedgerAccessError::Read(_) => Self::Failed(format!("{url}: {error}")),
            LedgerAccessError::Settings(error) => Self::failed(&error),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Logged(exit) => *exit,
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(refusal) => refusal.exit(),
            Self::Unfinished { .. } | Self::Incomplete(_) | Self::IncompleteFleet => Exit::TryAgain,
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

    /// Prints the error on stderr, as text or as one JSON object, and returns the exit code.
    pub(super) fn report(&self, as_json: bool) -> Exit {
        let exit = self.exit();
        if exit == Exit::Done || matches!(self, Self::Logged(_)) {
            return exit;
        }
        // With stderr closed, only the exit code remains.
        let _ = if as_json {
            let error = match self {
                Self::Refused(refusal) => refusal.to_json(),
                Self::Incomplete(coverage) => {
                    let mut error = coverage.to_json();
                    error["message"] = self.to_string().into();
                    error
                }
                Self::IncompleteFleet => json!({"incomplete": true, "message": self.to_string()}),
                other => json!({"message": other.to_string()}),
            };
            writeln!(io::stderr(), "{}", json!({"error": error}))
        } else {
            let text = wrap_error(&format!("error: {self}"));
            let rest = text.strip_prefix("error:").unwrap_or(&text);
            writeln!(anstream::stderr(), "{}{rest}", paint(ERROR, "error:"))
        };
        exit
    }
}
