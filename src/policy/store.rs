//! The policy in force, from the last valid state of its file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::parse::InvalidPolicy;
use super::rules::Policy;
use crate::identity::token::Tokens;
use crate::identity::{KeySourceError, Kind, Principal};
use crate::sync::watch;

/// A policy file, and the policy that was last read from it.
#[derive(Debug)]
pub struct PolicyStore {
    path: PathBuf,
    current: ArcSwap<Loaded>,
    /// Rises with each new policy, and when an issuer withdraws a key.
    generation: watch::Sender<u64>,
}

#[derive(Debug)]
struct Loaded {
    text: String,
    policy: Arc<Policy>,
    tokens: Arc<Tokens>,
}

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The keys of an issuer cannot be used.
    #[error("{path}: {source}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: KeySourceError,
    },
    /// The file holds no valid policy.
    #[error("{path} is no valid policy:\n{source}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The faults.
        source: InvalidPolicy,
    },
}

impl PolicyStore {
    /// Reads the file.
    ///
    /// # Errors
    /// [`StoreError`], with the file.
    pub async fn load(path: PathBuf) -> Result<Self, StoreError> {
        let text = read(&path).await?;
        let current = ArcSwap::from_pointee(parse(&path, text, None).await?);
        Ok(Self { path, current, generation: watch::Sender::default() })
    }

    /// Reads the file again, and returns whether it had changed.
    ///
    /// # Errors
    /// [`StoreError`], with the file. The old policy stays in force.
    pub async fn reload(&self) -> Result<bool, StoreError> {
        let text = read(&self.path).await?;
        let before = self.current.load_full();
        if text == before.text {
            return Ok(false);
        }
        let loaded = parse(&self.path, text, Some(before.tokens.as_ref())).await?;
        self.current.store(Arc::new(loaded));
        self.generation.send_modify(|generation| *generation += 1);
        Ok(true)
    }

    /// The policy in force.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.current.load().policy.clone()
    }

    /// The policy in force, and the text of its file.
    #[must_use]
    pub fn with_text(&self) -> (Arc<Policy>, String) {
        let current = self.current.load();
        (current.policy.clone(), current.text.clone())
    }

    /// The verifier of tokens of the policy's issuers.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        self.current.load().tokens.clone()
    }

    /// Whether the caller, once identified, still is: by a key of its issuer, or in a trust domain.
    #[must_use]
    pub fn trusts(&self, principal: &Principal) -> bool {
        let loaded = self.current.load();
        let in_domain = || loaded.policy.trust_domains().contains(&principal.issuer);
        loaded.tokens.trust(principal) && (principal.kind != Kind::Spiffe || in_domain())
    }

    /// Lets open streams be checked again, because an issuer withdrew a key.
    pub fn recheck(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// A number that rises with each new policy, and when an issuer withdraws a key.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

async fn read(path: &Path) -> Result<String, StoreError> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|source| StoreError::Read { path: path.to_owned(), source })
}

async fn parse(path: &Path, text: String, before: Option<&Tokens>) -> Result<Loaded, StoreError> {
    let policy = Policy::parse(&text)
        .map_err(|source| StoreError::Invalid { path: path.to_owned(), source })?;
    let tokens = Tokens::new(policy.issuers(), before).await;
    let tokens = tokens.map_err(|source| StoreError::Keys { path: path.to_owned(), source })?;
    Ok(Loaded { text, policy: Arc::new(policy), tokens: Arc::new(tokens) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(id: &str) -> String {
        format!(
            "version = 1\n[[allow]]\nid = \"{id}\"\ncallers = [\"*\"]\nactions = [\"*\"]\n\
             instances = [\"*\"]\n"
        )
    }

    #[tokio::test]
    async fn a_new_file_is_taken_and_a_bad_one_is_not() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let path = directory.path().join("policy.toml");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write(&allowing("one"));
        let store = PolicyStore::load(path.clone()).await.expect("valid");
        let generation = store.generation();
        let rule = || store.current().rules()[0].id.clone();
        assert!(!store.reload().await.expect("unchanged"));

        write("version = 1");
        let error = store.reload().await.expect_err("no rules");
        assert!(error.to_string().contains("policy.toml"), "{error}");
        assert_eq!((&*rule(), *generation.borrow()), ("one", 0));

        write(&allowing("two"));
        assert!(store.reload().await.expect("valid"));
        assert_eq!((&*rule(), *generation.borrow()), ("two", 1));

        let domain =
            |name: &str| write(&format!("trust_domains = [\"{name}\"]\n{}", allowing("a")));
        let caller = Principal {
            kind: Kind::Spiffe,
            issuer: "prod.example".to_owned(),
            ..Principal::anonymous()
        };
        for (listed, trusted) in [("prod.example", true), ("other.example", false)] {
            domain(listed);
            assert!(store.reload().await.expect("valid"));
            assert_eq!(store.trusts(&caller), trusted, "{listed}");
        }
        write(&allowing("two"));
        assert!(store.reload().await.expect("valid"));

        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(store.reload().await, Err(StoreError::Read { .. })));
        assert_eq!(&*rule(), "two");
    }
}
