//! The passwords of the ledger.

use std::io;
use std::path::Path;

use secrecy::SecretString;

use super::settings::Ledger;

impl Ledger {
    /// The content of `password_file` without a final line end, or else the URL's password. Each
    /// call reads the file, so a changed password takes effect.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn password(&self) -> io::Result<Option<SecretString>> {
        match &self.password_file {
            Some(path) => read(path).map(Some),
            None => Ok(self.url.login().and_then(|login| login.password.clone())),
        }
    }

    /// The content of `sentinel_password_file`, as [`Self::password`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sentinel_password(&self) -> io::Result<Option<SecretString>> {
        self.sentinel_password_file.as_deref().map(read).transpose()
    }
}

fn read(path: &Path) -> io::Result<SecretString> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    use crate::config::value::Value;
    use crate::config::{Config, LedgerUrl};
    use secrecy::ExposeSecret;

    #[test]
    fn the_file_wins_and_loses_its_line_end() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = LedgerUrl::parse("redis://:from-url@h").expect("it is a URL");
        let mut ledger = Config::with_ledger(url).ledger;
        let password = |ledger: &crate::config::Ledger| {
            ledger.password().map(|secret| secret.map(|s| s.expose_secret().to_owned()))
        };
        assert_eq!(password(&ledger).ok().flatten().as_deref(), Some("from-url"));

        let path = dir.path().join("password");
        std::fs::write(&path, " 00123 \r\n").expect("the file can be written");
        ledger.password_file = Some(path);
        assert_eq!(password(&ledger).ok().flatten().as_deref(), Some(" 00123 "));

        ledger.password_file = Some(dir.path().join("none"));
        assert!(password(&ledger).is_err());
    }
}
