//! A file of audit lines that another program may rename or remove, to begin a new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// Interval between checks that the path still names the open file.
const CHECK: Duration = Duration::from_secs(1);
/// Permissions of a new file: callers' names are not for every user of the machine.
const MODE: u32 = 0o640;

/// Appends to the file that has the path now.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    checked_at: Instant,
}

impl AuditFile {
    /// Opens the file, and creates it if it is missing.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self { file: append(&path)?, path, checked_at: Instant::now() })
    }

    /// Opens the path again if it names no file, or another one.
    fn follow(&mut self) -> io::Result<()> {
        let (open, named) = (self.file.metadata()?, std::fs::metadata(&self.path).ok());
        let is_same = named.is_some_and(|it| (it.dev(), it.ino()) == (open.dev(), open.ino()));
        if !is_same {
            self.file = append(&self.path)?;
        }
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

impl Write for AuditFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.checked_at.elapsed() >= CHECK {
            self.checked_at = Instant::now();
            self.follow()?;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_file_gets_no_further_lines() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let (path, rotated) = (directory.path().join("audit"), directory.path().join("audit.1"));
        let mut file = AuditFile::open(path.clone()).expect("created");
        file.write_all(b"one\n").expect("written");
        std::fs::rename(&path, &rotated).expect("renamed");
        file.follow().expect("opened again");
        file.write_all(b"two\n").expect("written");
        drop(file);
        AuditFile::open(path.clone()).expect("opened").write_all(b"three\n").expect("written");
        assert_eq!(std::fs::read_to_string(&rotated).expect("there"), "one\n");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "two\nthree\n");
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
    }
}
