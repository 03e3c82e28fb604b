//! Exit codes by kind of failure, for scripts. The numbers are those of `sysexits.h`.

use std::process::ExitCode;

/// An exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed or refused; a repeat would be refused again.
    Refused,
    /// 64: the arguments or the configuration are wrong.
    Usage,
    /// 69: the gateway cannot be reached.
    Unreachable,
    /// 75: a repeat may succeed.
    TryAgain,
    /// 77: not permitted: the caller by the gateway, or the gateway's account by ENS.
    NotAllowed,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 64,
            Self::Unreachable => 69,
            Self::TryAgain => 75,
            Self::NotAllowed => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
