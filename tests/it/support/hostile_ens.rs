//! What a hostile ENS does to an attach that takes effect.

use std::time::Duration;

use eni_gateway::simulator::Effect;
use rand::prelude::*;

/// Codes that ENS refuses an applied attach by: the one of a second copy, and unlisted ones.
const CODES: [&str; 3] = ["InvalidOperation.InvalidEniStatus", "Operation.Unexpected", "EniBusy"];

/// The answer denies the effect, or a second copy arrives within this time.
pub(crate) fn draw(random: &mut StdRng, replayed_within: Duration) -> Effect {
    if random.random_bool(0.3) {
        return Effect::Replay { after: replayed_within.mul_f64(random.random()) };
    }
    Effect::RefuseApplied {
        code: CODES[random.random_range(0..CODES.len())].to_owned(),
        status: if random.random_bool(0.25) { 429 } else { 400 },
        message: String::new(),
        retry_after: random
            .random_bool(0.25)
            .then(|| Duration::from_millis(random.random_range(0..3_000))),
    }
}
