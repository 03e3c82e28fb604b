//! The file descriptors of the process.

/// Descriptors kept for Redis, ENS, the collector, the admin listener and files.
const RESERVE: usize = 256;
/// The number of connections where the platform states no limit.
const UNLIMITED: usize = usize::MAX;

/// Maximum number of connections for which there are descriptors. Raises the soft limit of the
/// process to its hard limit first, as servers do.
#[cfg(unix)]
pub(super) fn for_connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    // Some platforms refuse; then the soft limit holds.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current;
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return UNLIMITED;
    };
    limit.saturating_sub(RESERVE).max(limit / 2)
}

/// Maximum number of connections for which there are descriptors: not known here.
#[cfg(not(unix))]
pub(super) fn for_connections() -> usize {
    UNLIMITED
}
