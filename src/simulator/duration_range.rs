//! A range of durations: `2s` or `1s..3s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::duration;

/// Durations in `min..=max`. Written `2s` or `1s..3s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationRange {
    min: Duration,
    max: Duration,
}

/// A reason why a text is not a [`DurationRange`].
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum InvalidSpread {
    /// One end is not a duration, or too long.
    #[error("{0}")]
    End(String),
    /// The end is before the beginning.
    #[error("a range must not end before it begins: {0}")]
    Reversed(String),
}

impl DurationRange {
    /// Zero.
    pub const ZERO: Self = Self::fixed(Duration::ZERO);

    /// A fixed duration.
    #[must_use]
    pub const fn fixed(duration: Duration) -> Self {
        Self { min: duration, max: duration }
    }

    /// The maximum.
    #[must_use]
    pub const fn longest(self) -> Duration {
        self.max
    }

    /// A random duration of the range.
    pub fn draw(self, rng: &mut impl Rng) -> Duration {
        if self.min == self.max { self.min } else { rng.random_range(self.min..=self.max) }
    }
}

impl FromStr for DurationRange {
    type Err = InvalidSpread;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let end = |end: &str| duration::parse(end).map_err(InvalidSpread::End);
        let Some((min, max)) = text.split_once("..") else {
            return Ok(Self::fixed(end(text)?));
        };
        let (min, max) = (end(min)?, end(max)?);
        if min > max {
            Err(InvalidSpread::Reversed(text.to_owned()))
        } else {
            Ok(Self { min, max })
        }
    }
}

impl TryFrom<String> for DurationRange {
    type Error = InvalidSpread;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DurationRange> for String {
    fn from(spread: DurationRange) -> Self {
        spread.to_string()
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.min))?;
        if self.min != self.max {
            write!(f, "..{}", humantime::format_duration(self.max))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["2s", "250ms", "1s..3s", "0s"] {
            assert_eq!(text.parse::<DurationRange>().unwrap().to_string(), text);
        }
        for bad in ["", "2", "3s..1s", "1s..", "fast", "1s..366days"] {
            assert!(bad.parse::<DurationRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn draws_within_its_ends() {
        let spread: DurationRange = "1s..3s".parse().unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..100 {
            let drawn = spread.draw(&mut rng);
            assert!(
                (Duration::from_secs(1)..=Duration::from_secs(3)).contains(&drawn),
                "{drawn:?}"
            );
        }
    }
}
