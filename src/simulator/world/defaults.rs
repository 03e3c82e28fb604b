//! Defaults of a world file.

/// The network of an instance or ENI that names none.
pub(super) fn network() -> String {
    "n-5w0qd03adw-main".to_owned()
}

/// The node of an instance or ENI that names none.
pub(super) fn region() -> String {
    "cn-tianjin-cmcc".to_owned()
}
