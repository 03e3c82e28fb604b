//! Durations of the simulator, such as `250ms`: bounded, because its clock panics on much longer
//! ones.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serializer, de};

/// The maximum of every duration.
pub(super) const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The maximum in words.
pub(super) const MAX_TEXT: &str = "365 days";

/// The duration that a text names.
///
/// # Errors
/// It names none, or one above [`MAX`].
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim()).map_err(|error| {
        format!("`{}` is not a duration such as 2s or 250ms: {error}", text.trim())
    })?;
    if duration <= MAX { Ok(duration) } else { Err(format!("{text} is above {MAX_TEXT}")) }
}

/// As [`parse`], with an optional sign.
pub(super) fn parse_signed(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if duration.unsigned_abs() <= MAX {
        Ok(duration)
    } else {
        Err(format!("{text} is beyond {MAX_TEXT}"))
    }
}

pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(from)?).map_err(de::Error::custom)
}

/// The same for a duration that may be absent.
pub(super) mod option {
    use super::*;

    pub(in crate::simulator) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::simulator) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| parse(&text)).transpose().map_err(de::Error::custom)
    }
}
