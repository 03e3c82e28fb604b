//! The default world: one example of each case that an attach can meet.

use super::world::{EniKind, EniSpec, EniStatus, Instance, Placement, RUNNING, WorldFile};

/// Number of available ENIs.
const AVAILABLE: usize = 40;

impl WorldFile {
    /// The default world. Its ids describe their purpose: attach `eni-0001` … `eni-0040` to
    /// `i-stopped-1` … `i-stopped-4`.
    #[must_use]
    pub fn default_world() -> Self {
        let mut world = Self::default();
        world.instances.extend((1..=4).map(|n| Instance::stopped(format!("i-stopped-{n}"))));
        world.enis.extend((1..=AVAILABLE).map(|n| EniSpec::available(format!("eni-{n:04}"))));

        let instance = |id: &str| Instance::stopped(id);
        world.instances.extend([
            Instance { status: RUNNING.to_owned(), ..instance("i-running") },
            Instance { supported: false, ..instance("i-unsupported") },
            Instance { permitted: false, ..instance("i-forbidden") },
            Instance { network: "n-5w0qd03adw-other".to_owned(), ..instance("i-other-network") },
            instance("i-full"),
            instance("i-nearly-full"),
        ]);
        let used = |prefix: &'static str, count: usize, on: &'static str| {
            (1..=count).map(move |n| EniSpec::available(format!("{prefix}-{n:02}")).on(on))
        };
        world.enis.extend(used("eni-full", world.rules.eni_limit, "i-full"));
        world.enis.extend(used("eni-nearly-full", world.rules.eni_limit - 1, "i-nearly-full"));
        world.enis.extend([
            EniSpec { service_managed: true, ..EniSpec::available("eni-service-managed") },
            EniSpec {
                network: "n-5w0qd03adw-other".to_owned(),
                ..EniSpec::available("eni-other-network")
            },
            EniSpec { kind: EniKind::Primary, ..EniSpec::available("eni-primary-i-running") }
                .on("i-running"),
            EniSpec {
                placement: Placement { status: EniStatus::Deleting, instance: None },
                ..EniSpec::available("eni-deleting")
            },
        ]);
        world
    }

    /// A world for tests and the demo: a stopped instance for each id, and `enis` available ENIs
    /// from `eni-0001`.
    #[must_use]
    pub fn simple(instances: &[&str], enis: usize) -> Self {
        Self {
            instances: instances.iter().copied().map(Instance::stopped).collect(),
            enis: (1..=enis).map(|n| EniSpec::available(format!("eni-{n:04}"))).collect(),
            ..Self::default()
        }
    }
}
