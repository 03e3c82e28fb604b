//! Every random draw of the gateway: ids, nonces, jitter. A simulation that seeds its thread
//! repeats the same ids and pauses.

use std::cell::RefCell;

use rand::distr::uniform::{SampleRange, SampleUniform};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use uuid::Uuid;

thread_local! {
    /// This thread's generator; `None`: the system's.
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// A random number from `range`.
pub fn between<T: SampleUniform>(range: impl SampleRange<T>) -> T {
    draw(|rng| rng.random_range(range))
}

/// A random number in `0.0..1.0`.
#[must_use]
pub fn fraction() -> f64 {
    draw(|rng| rng.random())
}

/// A new id (UUID version 4).
#[must_use]
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(draw(|rng| rng.random())).into_uuid()
}

/// Runs `run` with all random numbers of this thread drawn from `seed`. Other threads are not
/// affected.
pub fn seeded<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    /// Restores the previous generator, even if `run` panics.
    struct Before(Option<StdRng>);
    impl Drop for Before {
        fn drop(&mut self) {
            SEEDED.set(self.0.take());
        }
    }
    let _before = Before(SEEDED.replace(Some(StdRng::seed_from_u64(seed))));
    run()
}

fn draw<T>(from: impl FnOnce(&mut dyn Rng) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(rng) => from(rng),
        None => from(&mut rand::rng()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> (Uuid, u32, f64) {
        (uuid(), between(0..u32::MAX), fraction())
    }

    #[test]
    fn a_seed_repeats_itself_and_ends_with_its_run() {
        assert_eq!(seeded(1, some), seeded(1, some));
        assert_ne!(seeded(1, some), seeded(2, some));
        assert_ne!(some(), some());
        let after_inner = seeded(1, || {
            seeded(2, some);
            some()
        });
        assert_eq!(after_inner, seeded(1, some), "an inner run leaves the outer one as it was");
    }

    #[test]
    fn an_id_is_a_random_uuid() {
        assert_eq!(uuid().get_version_num(), 4);
    }
}
