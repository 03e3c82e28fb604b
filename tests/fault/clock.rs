//! A process's clock that can be set, by libfaketime. Its monotonic clock stays as it is.

use std::path::PathBuf;

use tempfile::TempDir;

#[derive(Debug)]
pub(crate) struct Clock {
    file: PathBuf,
    /// What the process must be started with.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Clock {
    /// One that is right as yet, of this name in a directory.
    pub(crate) fn new(library: &str, directory: &TempDir, name: &str) -> Self {
        let file = directory.path().join(name);
        let environment = vec![
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let clock = Self { file, environment };
        clock.set("+0");
        clock
    }

    /// Sets it so far off the right time, such as `-3600`, in seconds. The process notices within a second.
    pub(crate) fn set(&self, off: &str) {
        std::fs::write(&self.file, off).expect("the directory can be written to");
    }
}
