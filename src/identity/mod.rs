//! The identity of a caller: one principal, from one source. [`token`] reads it from a bearer
//! token, [`certificate`] from a client certificate that TLS has verified.

pub mod certificate;
mod jwks;
mod key_set;
mod name;
mod principal;
mod signatures;
pub mod token;
mod verified_tokens;

pub use jwks::KeyPrint;
pub use key_set::{KeySource, KeySourceError};
pub use name::named;
pub use principal::{IdentityError, Kind, Principal};
