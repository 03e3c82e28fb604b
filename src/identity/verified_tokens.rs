//! Tokens that were verified lately. A caller sends the same token with each call, and a signature
//! costs more than the rest of the check.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::Algorithm;
use lru::LruCache;
use sha2::{Digest as _, Sha256};

use super::key_set::Keys;
use super::principal::Principal;

/// Maximum number of tokens. Those used longest ago make room.
const MOST: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Tokens whose signatures and claims were verified, by their SHA-256.
#[derive(Debug)]
pub(super) struct VerifiedTokens(Mutex<LruCache<[u8; 32], VerifiedToken>>);

/// A token's principal, and what the verification depended on.
#[derive(Debug, Clone)]
pub(super) struct VerifiedToken {
    pub(super) principal: Arc<Principal>,
    /// The keys of its issuer.
    pub(super) keys: Arc<Keys>,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Algorithm,
    /// From the verification to the expiry, in Unix time.
    pub(super) valid: Range<u64>,
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl VerifiedTokens {
    /// The principal of a token, if a verification at `now` would have the same result.
    pub(super) fn principal(&self, token: &str, now: u64) -> Option<Arc<Principal>> {
        let verified = self.with(|tokens| tokens.get(&digest(token)).cloned())?;
        verified.holds(now).then_some(verified.principal)
    }

    /// Keeps a verified token.
    pub(super) fn insert(&self, token: &str, verified: VerifiedToken) {
        self.with(|tokens| tokens.put(digest(token), verified));
    }

    fn with<R>(&self, with: impl FnOnce(&mut LruCache<[u8; 32], VerifiedToken>) -> R) -> R {
        // No code under the lock panics.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl VerifiedToken {
    /// Whether the token is in its time, and its issuer would verify it by the same key.
    fn holds(&self, now: u64) -> bool {
        let key = || self.keys.known(self.key_id.as_deref(), self.algorithm);
        self.valid.contains(&now)
            && key().is_some_and(|(_, print)| self.principal.key == Some(print))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
