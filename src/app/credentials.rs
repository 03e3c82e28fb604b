//! The account's credentials, for the command line, which knows nothing of `ens`.

use crate::ens::credentials::{Credentials, ProviderContext};

pub use crate::ens::credentials::Provider;
pub use crate::ens::credentials::chain::DiscoverError;

/// From the first source that this process' surroundings set up. Takes a second at most.
///
/// # Errors
/// None is, or no HTTP client can be built.
pub async fn discover() -> Result<Provider, DiscoverError> {
    Provider::discover(&ProviderContext::of_process()).await
}

/// Always this key: for the embedded simulator.
///
/// # Errors
/// No HTTP client can be built.
pub fn fixed(id: &str, secret: &str) -> Result<Provider, String> {
    Provider::fixed(Credentials::new(id, secret))
}
