//! Classifies errors of the driver: whether a server answered, and whether a retry can help.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::tls_fault::{Remedies, TlsFault};

/// Transient refusals to write: too few replicas, no memory, no disk to save on.
const NO_WRITES: [&str; 3] = ["NOREPLICAS", "OOM", "MISCONF"];
/// The code of another transient refusal: a script runs too long.
const BUSY: &str = "BUSY";
/// The text of another one, which has no code of its own.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// The beginning of what is said of a server that is no Redis as `ledger.url` describes it.
pub(super) const OTHER_SERVER: &str = "the server there ";
/// The answer of a server that expects TLS, or of an HTTP server.
const NOT_REDIS: &str = "the server there does not speak redis' protocol; if it expects TLS, use \
    rediss://, and if it is an HTTP server, correct the port";
/// The remedies for a failed handshake.
pub(super) const TLS: Remedies<'_> = Remedies {
    plaintext: "use redis://",
    encrypted: "use rediss:// in ledger.url",
    authorities: "set ledger.ca_file to the CA certificate of redis",
    name: "use a name of the certificate in ledger.url",
    identity: "set ledger.cert_file and ledger.key_file",
};

/// Whether no later call over the same connection can succeed.
pub(super) fn is_dead(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly) | ErrorKind::Parse)
}

/// Whether the server closed the connection, or answered in another protocol.
pub(super) fn is_cut(error: &RedisError) -> bool {
    error.is_connection_dropped() || matches!(error.kind(), ErrorKind::Parse)
}

/// Whether another server of a cluster may hold the keys now or soon. Nothing was applied.
///
/// The redirection is not followed, because a commit's keys move one by one. While one of them is
/// missing, neither side takes the commit. One always is: a channel is no key.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    error.is_cluster_error() || error.kind() == ErrorKind::Server(ServerErrorKind::MasterDown)
}

/// Whether a server answered, even with a refusal.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    )
}

/// Whether the server temporarily refuses writes.
pub(super) fn refuses_writes(error: &RedisError) -> bool {
    error.code().is_some_and(|code| NO_WRITES.contains(&code))
}

/// Whether the server refuses until its configuration changes. False while it loads its data, for
/// example.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    use ServerErrorKind::{CrossSlot, NoPerm, ResponseError};
    match error.kind() {
        ErrorKind::Server(ResponseError) => {
            !error.detail().is_some_and(|detail| detail.contains(TOO_MANY_CLIENTS))
        }
        ErrorKind::Extension => !refuses_writes(error) && error.code() != Some(BUSY),
        ErrorKind::Server(NoPerm | CrossSlot) | ErrorKind::AuthenticationFailed => true,
        _ => false,
    }
}

/// An error as text for people, without control characters and not too long.
pub(super) fn describe(error: &RedisError) -> String {
    let text = match TlsFault::find(error) {
        Some(fault) => format!("{fault}; {}: {error}", fault.remedy(&TLS)),
        // The driver's text has the bytes that it did not expect.
        None if error.kind() == ErrorKind::Parse => NOT_REDIS.to_owned(),
        None => {
            let text = error.to_string();
            // Without the place in a script of ours, which Redis appends, and the kind of error,
            // which the driver appends.
            let text = text.split_once(" script: ").map_or(text.as_str(), |(text, _)| text);
            text.trim_end_matches(" - Io").to_owned()
        }
    };
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(kind: ServerErrorKind) -> RedisError {
        (ErrorKind::Server(kind), "refused").into()
    }

    #[test]
    fn a_connection_is_given_up_when_it_can_do_no_good() {
        assert!(is_dead(&server_error(ServerErrorKind::ReadOnly)));
        assert!(is_dead(&std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()));
        assert!(!is_dead(&server_error(ServerErrorKind::ResponseError)));
        assert!(!is_dead(&server_error(ServerErrorKind::BusyLoading)));
        assert!(is_answer(&server_error(ServerErrorKind::NoPerm)));
    }

    #[test]
    fn a_refusal_that_passes_is_none_for_good() {
        let extension = |code: &str| redis::make_extension_error(code.to_owned(), None);
        for code in NO_WRITES.into_iter().chain([BUSY]) {
            assert!(!is_refusal(&extension(code)), "{code}");
        }
        assert!(is_refusal(&extension("WRONGPASS")) && is_refusal(&extension("NOAUTH")));
        let crowded = (
            ErrorKind::Server(ServerErrorKind::ResponseError),
            "refused",
            "max number of clients reached".to_owned(),
        );
        assert!(!is_refusal(&crowded.into()));
        assert!(is_refusal(&server_error(ServerErrorKind::NoPerm)));
        assert!(!is_refusal(&server_error(ServerErrorKind::BusyLoading)));
    }
}
