//! Checks of the files that settings name.

use std::path::PathBuf;

use super::checks::Checks;
use crate::config::Config;

pub(super) fn files(config: &Config, checks: &mut Checks<'_>) {
    let mut readable = |path: &'static str, file: &Option<PathBuf>| {
        let Some(file) = file else { return };
        match std::fs::read(file) {
            Err(error) => {
                let problem = || format!("{} cannot be read ({error})", file.display());
                checks.require(&[path], false, problem, "set a file that the gateway can read");
            }
            // Without a password Redis may serve as its default user, or refuse later.
            Ok(content) => checks.require(
                &[path],
                !content.trim_ascii().is_empty(),
                || format!("{} is empty", file.display()),
                "write its content into the file, or unset the setting",
            ),
        }
    };
    readable("grpc.tls_cert_file", &config.grpc.tls_cert_file);
    readable("grpc.tls_key_file", &config.grpc.tls_key_file);
    readable("grpc.client_ca_file", &config.grpc.client_ca_file);
    readable("grpc.client_crl_file", &config.grpc.client_crl_file);
    readable("identity.policy_file", &config.identity.policy_file);
    readable("ledger.password_file", &config.ledger.password_file);
    readable("ledger.sentinel_password_file", &config.ledger.sentinel_password_file);
    readable("ledger.ca_file", &config.ledger.ca_file);
    readable("ledger.cert_file", &config.ledger.cert_file);
    readable("ledger.key_file", &config.ledger.key_file);
}
