//! The resume token of a watch of the fleet: for each partition its epoch, and the position up to
//! which everything was sent.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::ledger::Partition;
use crate::ledger::keys::PARTITIONS;
use crate::model::Position;

/// The first byte of a token.
const VERSION: u8 = 1;
/// The index of a partition without an epoch.
const NO_LIFE: u8 = u8::MAX;
/// Bytes of a partition in a token: the index of its epoch, and its position.
const MARK: usize = 9;

/// Identifies a scope of a watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeDigest([u8; 8]);

impl ScopeDigest {
    /// The digest of these parts.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(first(&digest.finalize()))
    }
}

/// One uninterrupted life of a partition's data, within which positions rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Life(pub(super) [u8; 8]);

impl Life {
    pub(in super::super) fn of(partition: &Partition) -> Self {
        Self(first(&Sha256::digest(partition.epoch.as_bytes())))
    }
}

fn first(digest: &[u8]) -> [u8; 8] {
    std::array::from_fn(|index| digest[index])
}

/// How far a partition was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Mark {
    /// `None`: nothing was sent.
    pub(in super::super) life: Option<Life>,
    pub(in super::super) position: Position,
}

/// The place at which a watch of the fleet resumes, on any replica. Its text is for programs only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    pub(in super::super) scope: ScopeDigest,
    /// One for each partition.
    pub(in super::super) marks: Vec<Mark>,
}

/// A text that is no resume token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a resume_token of a heartbeat")]
pub struct InvalidToken;

impl ResumeToken {
    /// The token from which a watch of this scope starts. Positions of another scope are void:
    /// they count as lost.
    pub(in super::super) fn resumed(after: Option<&Self>, scope: ScopeDigest) -> Self {
        let start = || vec![Mark::default(); usize::from(PARTITIONS)];
        let mut marks = after.map_or_else(start, |after| after.marks.clone());
        if after.is_some_and(|after| after.scope != scope) {
            marks.iter_mut().for_each(|mark| mark.position = Position(u64::MAX));
        }
        Self { scope, marks }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&version, bytes) = bytes.split_first()?;
        let (scope, bytes) = bytes.split_first_chunk::<8>()?;
        let (&count, bytes) = bytes.split_first()?;
        let (lives, marks) = bytes.split_at_checked(8 * usize::from(count))?;
        let lives: Vec<_> = lives.chunks_exact(8).map(|life| Life(first(life))).collect();
        let fits = version == VERSION && marks.len() == MARK * usize::from(PARTITIONS);
        let marks = marks.chunks_exact(MARK).filter(|_| fits).map(|mark| {
            let (&index, position) = mark.split_first()?;
            let life = match index {
                NO_LIFE => None,
                index => Some(*lives.get(usize::from(index))?),
            };
            Some(Mark { life, position: Position(u64::from_be_bytes(first(position))) })
        });
        let marks = marks.collect::<Option<Vec<_>>>().filter(|marks| !marks.is_empty())?;
        Some(Self { scope: ScopeDigest(*scope), marks })
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lives: Vec<Life> = Vec::new();
        let mut marks = Vec::with_capacity(MARK * self.marks.len());
        for mark in &self.marks {
            let index = mark.life.map(|life| {
                let known = lives.iter().position(|known| *known == life);
                known.unwrap_or_else(|| {
                    lives.push(life);
                    lives.len() - 1
                })
            });
            // There are fewer partitions than the byte holds.
            marks.push(index.and_then(|index| u8::try_from(index).ok()).unwrap_or(NO_LIFE));
            marks.extend(mark.position.0.to_be_bytes());
        }
        let mut bytes = vec![VERSION];
        bytes.extend(self.scope.0);
        bytes.extend(u8::try_from(lives.len()));
        lives.iter().for_each(|life| bytes.extend(life.0));
        bytes.extend(marks);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for ResumeToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| Self::read(&bytes)).ok_or(InvalidToken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> ResumeToken {
        let mut token = ResumeToken::resumed(None, ScopeDigest::of([b"a".as_slice()]));
        for (index, mark) in token.marks.iter_mut().enumerate().skip(1) {
            let epoch = format!("epoch {}", index % 3).into();
            let partition = Partition { epoch, ..Partition::default() };
            *mark = Mark { life: Some(Life::of(&partition)), position: Position(index as u64) };
        }
        token
    }

    #[test]
    fn a_token_is_read_back() {
        let text = token().to_string();
        assert_eq!(text.parse(), Ok(token()));
        assert!(text.len() < 1000, "{}", text.len());
        for cut in [0, 1, 20, text.len() - 1] {
            assert_eq!(text[..cut].parse::<ResumeToken>(), Err(InvalidToken), "{cut}");
        }
        assert_eq!(format!("{text}AAAA").parse::<ResumeToken>(), Err(InvalidToken));
    }

    #[test]
    fn scopes_with_other_parts_differ() {
        let of = |parts: &[&str]| ScopeDigest::of(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = ResumeToken::read(&bytes);
        }
    }
}
