//! Principals by their names.

use super::principal::{IdentityError, Principal};
use super::{certificate, token};

/// The principal of this name, without credentials, to try a policy.
///
/// # Errors
/// [`IdentityError`]: no principal has this name.
pub fn named(name: &str) -> Result<Principal, IdentityError> {
    match name.strip_prefix("dns:") {
        Some(name) => certificate::dns_name(name, None),
        None if name.starts_with("spiffe://") => certificate::spiffe(name, None, None),
        None => {
            let (alias, subject) = name.split_once(':').ok_or(IdentityError::Form)?;
            token::of_subject(alias, subject, Vec::new(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_its_source() {
        for name in ["spiffe://a.example/b", "dns:a.example", "cluster:user", "spiffe-2:user"] {
            let principal = named(name).expect(name);
            assert_eq!(principal.name.source(), principal.kind.name(), "{name}");
        }
        let nameless = Principal::anonymous();
        assert_eq!(nameless.name.source(), nameless.kind.name());
    }
}
