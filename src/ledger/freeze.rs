//! The stop of new attaches that an operator ordered. It stands in each partition of the ledger.
//! The commit that reserves a slot compares it, so no replica begins an attach after the order.

use std::fmt;
use std::sync::Arc;

use crate::model::Timestamp;
use crate::model::failure::cut;

/// Maximum length of a reason, in bytes.
const MAX_REASON: usize = 256;

/// A freeze as it is stored: `<since, us> <reason>`. A commit compares the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze(Arc<str>);

impl Freeze {
    /// A freeze that began at `since`. The reason becomes one line, and is cut.
    #[must_use]
    pub fn new(since: Timestamp, reason: &str) -> Self {
        let mut reason = reason.replace(char::is_control, " ");
        cut(&mut reason, MAX_REASON);
        Self(format!("{} {}", since.as_micros(), reason.trim()).into())
    }

    /// The stored freeze; `None` where nothing is stored. A text of another form freezes, too.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The text as it is stored.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// When it began, by the clock of a server of the ledger.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        let (since, _) = self.0.split_once(' ')?;
        since.parse().ok().map(Timestamp::from_micros)
    }

    /// The operator's reason; empty without one.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, reason)| reason)
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ledger is frozen")?;
        if let Some(since) = self.since() {
            write!(f, " since {since}")?;
        }
        match self.reason() {
            "" => Ok(()),
            reason => write!(f, " ({reason})"),
        }
    }
}

/// The partitions that are frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrozenPartitions {
    /// Their number.
    pub count: usize,
    /// The number of all partitions.
    pub of: usize,
    /// The freeze of the first one.
    pub freeze: Option<Freeze>,
}

impl FrozenPartitions {
    /// Those of these partitions that have a freeze.
    pub fn among<'a>(partitions: impl Iterator<Item = Option<&'a Freeze>>) -> Self {
        partitions.fold(Self::default(), |all, freeze| Self {
            count: all.count + usize::from(freeze.is_some()),
            of: all.of + 1,
            freeze: all.freeze.or_else(|| freeze.cloned()),
        })
    }

    /// What is frozen, and since when; `None` if nothing is.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let Self { count, of, freeze } = self;
        let freeze = freeze.as_ref()?;
        Some(if count == of {
            format!("{freeze}: no attach begins")
        } else {
            format!("{freeze}, in {count} of {of} partitions: no attach begins there")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let since = Timestamp::from_micros(1_795_424_400_000_000);
        let freeze = Freeze::new(since, " moving\nthe account ");
        assert_eq!((freeze.since(), freeze.reason()), (Some(since), "moving the account"));
        assert_eq!(Freeze::stored(freeze.text()), Some(freeze.clone()));
        let text = "the ledger is frozen since 2026-11-23T09:00:00.000Z (moving the account)";
        assert_eq!(freeze.to_string(), text);
        assert_eq!(
            Freeze::new(since, "").to_string(),
            "the ledger is frozen since 2026-11-23T09:00:00.000Z"
        );
        assert_eq!(Freeze::stored(""), None);
        let other = Freeze::stored("by hand").expect("it freezes");
        assert_eq!((other.since(), other.text()), (None, "by hand"));
        assert!(Freeze::new(since, &"é".repeat(999)).text().len() < MAX_REASON + 20);
    }
}
