//! A process clock that a test sets, by a preloaded library. Its monotonic clock does not change.
//! Redis' allocator does not work with libfaketime.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

#[derive(Debug)]
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// A clock that shows the system's time and is set through this file.
    pub(crate) fn new(file: PathBuf) -> Self {
        let clock = Self(file);
        clock.set(0);
        clock
    }

    /// Sets the clock to this many seconds ahead of the system's.
    pub(crate) fn set(&self, ahead: i64) {
        // Written as a whole, and mapped by the process.
        let file = File::options().write(true).create(true).truncate(false).open(&self.0);
        let micros = (ahead * 1_000_000).to_ne_bytes();
        file.unwrap().write_all_at(&micros, 0).unwrap();
    }

    /// Environment variables for the process.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let file = self.0.display().to_string();
        [("LD_PRELOAD", shim().display().to_string()), ("CLOCK_FILE", file)]
    }
}

/// The library, built once for all tests.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/clock.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clock.so");
        let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
        if changed(&library).unwrap_or(SystemTime::UNIX_EPOCH) < changed(&source).unwrap() {
            // Other processes may build it too, and preload the file.
            let own = library.with_extension(format!("{}.so", std::process::id()));
            let flags = ["-shared", "-fPIC", "-O1", "-o"];
            let built = Command::new("cc").args(flags).arg(&own).arg(&source).status();
            assert!(built.expect("a C compiler is needed").success());
            fs::rename(&own, &library).unwrap();
        }
        library
    })
}
