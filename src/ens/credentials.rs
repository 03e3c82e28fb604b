//! The account's credentials.

/// One set of credentials.
pub struct Credentials {}
