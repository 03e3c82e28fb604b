//! Faults of ENS drawn at random, one call at a time.

use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, Fault};
use rand::prelude::*;

use super::hostile_ens;

/// Bounds of the draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnsFaults {
    /// Longest time, exclusive and in milliseconds, after which an attach is applied late.
    pub(crate) applied_within: u64,
    /// Whether ENS also forgets, repeats and refuses what it applied.
    pub(crate) hostile: bool,
}

impl EnsFaults {
    /// A fault of the next attach or, more rarely, of the next describe. Every fault delays the
    /// call and its answer; some do nothing else.
    pub(crate) fn draw(self, random: &mut StdRng) -> Fault {
        let effect = self.effect(random);
        let action = if random.random_bool(0.8) {
            Action::AttachNetworkInterface
        } else {
            Action::DescribeNetworkInterfaces
        };
        Fault::next(action, effect).delay(millis(random, 200)).delay_answer(millis(random, 400))
    }

    fn effect(self, random: &mut StdRng) -> Effect {
        let kinds = if self.hostile { 14 } else { 12 };
        match random.random_range(0..kinds) {
            0 => Effect::DropBefore,
            1 => Effect::DropAfter,
            2 => Effect::Mask,
            3 => Effect::Html { status: 502, apply: random.random() },
            4 => Effect::NotJson { apply: random.random() },
            5 => Effect::Truncated,
            6 => Effect::AcceptThenFail,
            7 => Effect::ApplyLate { after: millis(random, self.applied_within) },
            8 => Effect::Throttle { retry_after: Some(millis(random, 200)) },
            9 => Effect::Refuse {
                code: "InternalError".to_owned(),
                status: 500,
                message: String::new(),
            },
            10 if self.hostile => Effect::AcceptThenForget,
            12 | 13 => hostile_ens::draw(random, Duration::from_millis(500)),
            _ => Effect::None,
        }
    }
}

fn millis(random: &mut StdRng, most: u64) -> Duration {
    Duration::from_millis(random.random_range(0..most))
}
