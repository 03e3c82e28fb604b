//! The principal of a bearer token: a JWT of a configured issuer.
//!
//! Nothing in a token is believed before its signature is verified. Its `iss` and `kid` only select
//! the key. Keys in the token or behind its URLs (`jwk`, `jku`, `x5u`) are never used.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header, get_current_timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::key_set::{KeySource, KeySourceError, Keys};
use super::principal::{IdentityError, Kind, Principal};
use super::signatures;
use super::verified_tokens::{VerifiedToken, VerifiedTokens};
use crate::model::Caller;

/// Maximum length of a token, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Maximum length of a subject, in bytes.
const MAX_SUBJECT: usize = 256;

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerSettings {
    /// Begins the names of its principals: `ALIAS:SUBJECT`.
    pub alias: String,
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// One of them must be in the claim `aud`.
    pub audiences: Vec<String>,
    /// The algorithms that its tokens may have.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Tolerance for differences of clocks, in `exp` and `nbf`.
    pub leeway: Duration,
    /// Whether its tokens must name their key (`kid`). Otherwise one without a name is verified by
    /// the issuer's key, while it has only one.
    pub require_key_id: bool,
    /// The claim with the groups of the caller, a list of texts.
    pub groups_claim: String,
}

/// The algorithm of this name that tokens may have; `None` for another, such as `none` or one with
/// a shared secret.
#[must_use]
pub fn algorithm(name: &str) -> Option<Algorithm> {
    let found = name.parse().ok()?;
    signatures::ALGORITHMS.contains(&found).then_some(found)
}

/// Verifies the tokens of some issuers.
#[derive(Debug)]
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    verified: VerifiedTokens,
}

#[derive(Debug)]
struct Issuer {
    settings: IssuerSettings,
    keys: Arc<Keys>,
}

#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Tokens {
    /// A verifier for these issuers. Issuers that `before` has, too, keep their keys.
    ///
    /// # Errors
    /// [`KeySourceError`]: a file of keys cannot be used.
    pub async fn new(
        issuers: &[IssuerSettings],
        before: Option<&Self>,
    ) -> Result<Self, KeySourceError> {
        signatures::install();
        let mut all = Vec::new();
        for settings in issuers {
            let mut known = before.iter().flat_map(|tokens| &tokens.issuers);
            all.push(match known.find(|issuer| issuer.settings == *settings) {
                Some(issuer) => issuer.clone(),
                None => {
                    let keys = Keys::open(settings.keys.clone()).await?;
                    Arc::new(Issuer { settings: settings.clone(), keys: Arc::new(keys) })
                }
            });
        }
        Ok(Self { issuers: all, verified: VerifiedTokens::default() })
    }

    /// Whether there is an issuer.
    #[must_use]
    pub fn are_used(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Reads the keys again that are due; whether some changed.
    ///
    /// # Errors
    /// The fault of the first issuer whose keys cannot be read. Its keys before stay in use.
    pub async fn refresh(&self) -> Result<bool, KeySourceError> {
        let mut outcome = Ok(false);
        for issuer in &self.issuers {
            let result = issuer.keys.refresh().await;
            outcome = outcome.and_then(|before| result.map(|changed| before || changed));
        }
        outcome
    }

    /// The principal of a token.
    ///
    /// # Errors
    /// [`IdentityError::Token`]: why the token is not accepted, without its content.
    pub async fn principal(&self, token: &str) -> Result<Arc<Principal>, IdentityError> {
        if token.len() > MAX_TOKEN {
            return Err(IdentityError::Token("is longer than 8 KiB"));
        }
        let now = get_current_timestamp();
        if let Some(principal) = self.verified.principal(token, now) {
            return Ok(principal);
        }
        let verified = self.verify(token, now).await?;
        let principal = verified.principal.clone();
        self.verified.insert(token, verified);
        Ok(principal)
    }

    async fn verify(&self, token: &str, now: u64) -> Result<VerifiedToken, IdentityError> {
        let bad = IdentityError::Token;
        let header = decode_header(token).map_err(|_| bad("has no header of a known form"))?;
        if header.crit.is_some() {
            return Err(bad("has critical header parameters"));
        }
        let Unverified { iss } =
            insecure_decode_claims(token).map_err(|_| bad("names no issuer (`iss`)"))?;
        let issuer = self.issuers.iter().find(|issuer| issuer.settings.issuer == iss);
        let issuer = issuer.ok_or(bad("is of an unknown issuer"))?;
        if !issuer.settings.algorithms.contains(&header.alg) {
            return Err(bad("has an algorithm that its issuer may not use"));
        }
        if header.kid.is_none() && issuer.settings.require_key_id {
            return Err(bad("names no key (`kid`)"));
        }
        let key = issuer.keys.find(header.kid.as_deref(), header.alg).await;
        let (key, print) = key.ok_or(bad("names a key that its issuer does not have"))?;
        let settings = &issuer.settings;
        let mut validation = Validation::new(header.alg);
        validation.leeway = settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&settings.audiences);
        let verified = decode::<Claims>(token, &key, &validation);
        let claims = verified.map_err(|error| bad(why(error.kind())))?.claims;
        let valid = now..(claims.exp as u64).saturating_add(validation.leeway);
        let principal = Principal { key: Some(print), ..of_claims(settings, claims)? };
        Ok(VerifiedToken {
            principal: principal.into(),
            keys: issuer.keys.clone(),
            key_id: header.kid,
            algorithm: header.alg,
            valid,
        })
    }

    /// Whether the key that verified the caller's token is still one of its issuer. True for a
    /// caller without a token.
    #[must_use]
    pub fn trust(&self, principal: &Principal) -> bool {
        principal.key.is_none_or(|key| {
            let mut issuers = self.issuers.iter();
            issuers.any(|it| it.settings.alias == principal.issuer && it.keys.has(key))
        })
    }

    /// A number that rises when a key is withdrawn.
    #[must_use]
    pub fn withdrawals(&self) -> u64 {
        self.issuers.iter().map(|issuer| issuer.keys.withdrawals()).sum()
    }
}

/// The fault of a token, without its content.
fn why(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::InvalidSignature => "has an invalid signature",
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidAudience => "is for another audience",
        ErrorKind::InvalidIssuer => "is of an unknown issuer",
        ErrorKind::MissingRequiredClaim(_) => "lacks one of the claims exp, iss, aud and sub",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => {
            "has an algorithm that its key is not for"
        }
        _ => "is malformed",
    }
}

fn of_claims(settings: &IssuerSettings, claims: Claims) -> Result<Principal, IdentityError> {
    let groups = claims.others.get(&settings.groups_claim).and_then(Value::as_array);
    let groups = groups.into_iter().flatten().filter_map(Value::as_str);
    let groups = groups.map(str::to_owned).collect();
    of_subject(&settings.alias, &claims.sub, groups, Some(claims.exp as i64))
}

/// The principal of this subject.
pub(super) fn of_subject(
    alias: &str,
    subject: &str,
    groups: Vec<String>,
    expires: Option<i64>,
) -> Result<Principal, IdentityError> {
    let printable = subject.bytes().all(|byte| byte.is_ascii_graphic());
    if subject.is_empty() || subject.len() > MAX_SUBJECT || !printable {
        return Err(IdentityError::Token("has a subject that cannot be a name"));
    }
    let namespace = match subject.split(':').collect::<Vec<_>>()[..] {
        ["system", "serviceaccount", namespace, _] => namespace.to_owned(),
        _ => String::new(),
    };
    Ok(Principal {
        name: Caller(format!("{alias}:{subject}").into()),
        kind: Kind::Token,
        issuer: alias.to_owned(),
        namespace,
        groups,
        expires,
        key: None,
    })
}
