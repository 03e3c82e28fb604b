//! The identity of a caller: one principal, from one source. [`certificate`] reads it from a client
//! certificate that TLS has verified.

pub mod certificate;
mod name;
mod principal;

pub use name::named;
pub use principal::{IdentityError, Kind, Principal};
