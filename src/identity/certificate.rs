//! The principal of a client certificate, from its subject alternative names.
//!
//! A certificate with a URI is a SPIFFE certificate (X.509-SVID): it must have exactly one URI,
//! which is its id. Any other certificate must have exactly one DNS name. Two names would let the
//! order of the names decide.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::principal::{IdentityError, Kind, Principal};
use crate::model::Caller;

/// Maximum length of a SPIFFE id, in bytes, as its standard says.
const MAX_ID: usize = 2048;

/// The principal of a certificate that TLS has verified. `trust_domains` are those of SPIFFE ids
/// that are accepted; `None` accepts every one.
///
/// # Errors
/// [`IdentityError::Certificate`]: the certificate has no name, several, or one of an unknown trust
/// domain.
pub fn principal(
    certificate: &CertificateDer<'_>,
    trust_domains: Option<&[String]>,
) -> Result<Principal, IdentityError> {
    let unusable = IdentityError::Certificate;
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| unusable("cannot be read"))?;
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|_| unusable("has more than one list of alternative names"))?;
    let names = names.map_or(&[][..], |names| names.value.general_names.as_slice());
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uris: Vec<&str> = uris.collect();
    let expires = Some(parsed.validity().not_after.timestamp());
    match uris[..] {
        [] => dns(names, expires),
        [id] => spiffe(id, trust_domains, expires),
        _ => Err(unusable("has more than one URI, and its id would be ambiguous")),
    }
}

fn dns(names: &[GeneralName<'_>], expires: Option<i64>) -> Result<Principal, IdentityError> {
    let mut dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let name = match (dns.next(), dns.next()) {
        (Some(name), None) => name,
        (None, _) => return Err(IdentityError::Certificate("has neither a URI nor a DNS name")),
        (Some(_), Some(_)) => {
            let why = "has no URI and more than one DNS name, and its name would be ambiguous";
            return Err(IdentityError::Certificate(why));
        }
    };
    dns_name(name, expires)
}

/// The principal of one DNS name.
pub(super) fn dns_name(name: &str, expires: Option<i64>) -> Result<Principal, IdentityError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(valid) {
        return Err(IdentityError::Certificate("has a DNS name that is none"));
    }
    Ok(Principal {
        name: Caller(format!("dns:{}", name.to_ascii_lowercase()).into()),
        kind: Kind::Dns,
        expires,
        ..Principal::anonymous()
    })
}

/// The principal of one SPIFFE id. `trust_domains` as for [`principal`].
pub(super) fn spiffe(
    id: &str,
    trust_domains: Option<&[String]>,
    expires: Option<i64>,
) -> Result<Principal, IdentityError> {
    let (domain, path) =
        parts(id).ok_or(IdentityError::Certificate("has a URI that is no SPIFFE id"))?;
    if trust_domains.is_some_and(|domains| domains.iter().all(|known| known != domain)) {
        let why = "has a SPIFFE id of a trust domain that the policy does not list";
        return Err(IdentityError::Certificate(why));
    }
    let namespace = match path.split('/').collect::<Vec<_>>()[..] {
        ["ns", namespace, "sa", _] => namespace.to_owned(),
        _ => String::new(),
    };
    Ok(Principal {
        name: Caller(id.into()),
        kind: Kind::Spiffe,
        issuer: domain.to_owned(),
        namespace,
        expires,
        ..Principal::anonymous()
    })
}

/// Trust domain and path of a workload's SPIFFE id; `None` if it is not one.
fn parts(id: &str) -> Option<(&str, &str)> {
    let (domain, path) = id.strip_prefix("spiffe://")?.split_once('/')?;
    let valid_segment = |segment: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(letter)
    };
    let valid = id.len() <= MAX_ID && is_trust_domain(domain) && path.split('/').all(valid_segment);
    valid.then_some((domain, path))
}

/// Whether the text is the name of a trust domain.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let letter = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    !text.is_empty() && text.len() <= 255 && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rstest::rstest;

    use super::*;

    fn certificate(names: &[(&str, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|(kind, name)| match *kind {
                "uri" => SanType::URI((*name).try_into().expect("ascii")),
                "dns" => SanType::DnsName((*name).try_into().expect("ascii")),
                _ => SanType::Rfc822Name((*name).try_into().expect("ascii")),
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    const ID: &str = "spiffe://prod.example/ns/web/sa/api";

    #[rstest]
    #[case::spiffe(&[("uri", ID)], ID, Kind::Spiffe, "prod.example", "web")]
    #[case::spiffe_beside_dns(&[("dns", "a.example"), ("uri", ID)], ID, Kind::Spiffe, "prod.example", "web")]
    #[case::another_path(&[("uri", "spiffe://prod.example/api")], "spiffe://prod.example/api", Kind::Spiffe, "prod.example", "")]
    #[case::dns(&[("dns", "API.example"), ("mail", "a@b.example")], "dns:api.example", Kind::Dns, "", "")]
    fn one_name_is_the_principal(
        #[case] names: &[(&str, &str)],
        #[case] name: &str,
        #[case] kind: Kind,
        #[case] issuer: &str,
        #[case] namespace: &str,
    ) {
        let domains = ["prod.example".to_owned()];
        let found = principal(&certificate(names), Some(&domains)).expect("identified");
        assert_eq!((&*found.name.0, found.kind), (name, kind));
        assert_eq!((&*found.issuer, &*found.namespace), (issuer, namespace));
        assert!(found.expires.is_some());
    }

    #[rstest]
    #[case::none(&[], "neither")]
    #[case::mail(&[("mail", "a@b.example")], "neither")]
    #[case::two_uris(&[("uri", ID), ("uri", "https://a.example/")], "more than one URI")]
    #[case::two_names(&[("dns", "a.example"), ("dns", "b.example")], "more than one DNS name")]
    #[case::wildcard(&[("dns", "*.example")], "that is none")]
    #[case::other_uri(&[("uri", "https://a.example/"), ("dns", "a.example")], "no SPIFFE id")]
    #[case::no_path(&[("uri", "spiffe://prod.example")], "no SPIFFE id")]
    #[case::empty_path(&[("uri", "spiffe://prod.example/")], "no SPIFFE id")]
    #[case::dots(&[("uri", "spiffe://prod.example/a/../b")], "no SPIFFE id")]
    #[case::port(&[("uri", "spiffe://prod.example:80/a")], "no SPIFFE id")]
    #[case::upper_case(&[("uri", "SPIFFE://prod.example/a")], "no SPIFFE id")]
    #[case::encoded(&[("uri", "spiffe://prod.example/a%2Fb")], "no SPIFFE id")]
    #[case::query(&[("uri", "spiffe://prod.example/a?b")], "no SPIFFE id")]
    #[case::elsewhere(&[("uri", "spiffe://evil.example/ns/web/sa/api")], "does not list")]
    #[case::prefix(&[("uri", "spiffe://prod.example.evil/a")], "does not list")]
    fn anything_else_is_no_principal(#[case] names: &[(&str, &str)], #[case] problem: &str) {
        let domains = ["prod.example".to_owned()];
        let error = principal(&certificate(names), Some(&domains)).expect_err("no identity");
        assert!(error.to_string().contains(problem), "{error}");
    }

    #[test]
    fn without_a_list_every_trust_domain_is_accepted() {
        assert!(principal(&certificate(&[("uri", "spiffe://any.example/a")]), None).is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_no_principal() {
        let error = principal(&b"no certificate"[..].into(), None).expect_err("no identity");
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
