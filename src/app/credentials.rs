//! The account's credentials, for the command line, which does not use `ens`.

use crate::config::value::Endpoint;
use crate::ens::credentials::{Credentials, ProviderContext};

pub use crate::ens::credentials::Provider;
pub use crate::ens::credentials::chain::DiscoverError;

/// The provider of the first source that the environment sets up. Takes at most three seconds.
/// `proxy` is the one for STS.
///
/// # Errors
/// No source is set up, or no HTTP client can be built.
pub async fn discover(proxy: Option<&Endpoint>) -> Result<Provider, DiscoverError> {
    let proxy = proxy.map(|proxy| proxy.url().clone());
    Provider::discover(&ProviderContext::of_process().with_proxy(proxy)).await
}

/// A provider of this key, for the embedded simulator.
///
/// # Errors
/// No HTTP client can be built.
pub fn fixed(id: &str, secret: &str) -> Result<Provider, String> {
    Provider::fixed(Credentials::new(id, secret))
}
