//! The identity of a caller: one principal, from one source. [`token`] reads it from a bearer
//! token, [`certificate`] from a client certificate that TLS has verified.

pub mod certificate;
mod key_set;
mod name;
mod principal;
mod signatures;
pub mod token;

pub use key_set::{KeyPrint, KeySource, KeySourceError};
pub use name::named;
pub use principal::{IdentityError, Kind, Principal};
