//! `check`: tests a configuration and prints the results.

use std::io::Write as _;

use serde_json::json;

use super::error::Error;
use super::output::Format;
use super::serve::Settings;
use super::style::{BAD, BUSY, GOOD, clean, paint, wrap};
use crate::app::check::{self, CheckFailure, CheckResult, CheckStatus};
use crate::app::credentials;
use crate::config::{self, Config};

const EXAMPLES: &str = "\
Examples:
  eni-gateway check --config /etc/eni-gateway.toml
  eni-gateway check --config /etc/eni-gateway.toml --offline
  eni-gateway check -o json

It changes nothing, so it does not try the right to attach. Exit codes: 0 everything works (perhaps with warnings), 64 the configuration \
is wrong, 69 Redis or ENS cannot be reached, 77 ENS refuses the key or lacks a right, 1 anything \
else. Of several, the first in this order.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Check the settings only, without connections
    #[arg(long)]
    offline: bool,
    /// Output: lines for people, or one JSON object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
    // Last, because its heading would cover further options.
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let (loaded, mut faults) = config::read(args.settings.sources());
    if !faults.0.is_empty() {
        check::add_file_faults(&loaded.config, &mut faults).await;
        return Err(Error::Usage(faults.to_string()));
    }
    let mut results = vec![CheckResult::good("settings", "complete and consistent")];
    results.extend(
        loaded.warnings.iter().map(|warning| CheckResult::warning("settings", warning, "")),
    );
    let certificates = check::certificates(&loaded.config).await;
    let are_good = !certificates.iter().any(CheckResult::is_bad);
    results.extend(certificates);
    results.extend(check::expiry(&loaded.config).await);
    results.extend(check::policy(&loaded.config).await);
    results.extend(check::log_filter(&loaded.config));
    // No connection can be made with bad certificates.
    if !args.offline && are_good {
        results.extend(online(&loaded.config).await?);
    }
    for result in &results {
        print(result, args.output)?;
    }
    let worst = results.iter().filter_map(|result| match result.status {
        CheckStatus::Failed(failure) => Some(failure),
        CheckStatus::Good | CheckStatus::Warning => None,
    });
    match worst.max() {
        None => Ok(()),
        Some(failure) => Err(Error::CheckFailed(failure)),
    }
}

async fn online(config: &Config) -> Result<Vec<CheckResult>, Error> {
    let mut results = check::coordination(config).await.map_err(|error| Error::failed(&error))?;
    match credentials::discover(config.ens.proxy.as_ref()).await {
        Ok(credentials) => {
            results.extend(
                check::cloud(config, credentials).await.map_err(|error| Error::failed(&error))?,
            );
        }
        Err(error) => {
            let failure = CheckFailure::Configuration;
            results.push(CheckResult::failed(
                "credentials",
                failure,
                error.to_string(),
                error.remedy(),
            ));
        }
    }
    Ok(results)
}

/// Column of the messages.
const INDENT: usize = 22;

fn print(result: &CheckResult, format: Format) -> Result<(), Error> {
    let CheckResult { part, status, message, remedy } = result;
    let (name, style) = match status {
        CheckStatus::Good => ("ok", GOOD),
        CheckStatus::Warning => ("warning", BUSY),
        CheckStatus::Failed(_) => ("failed", BAD),
    };
    let mut stdout = anstream::stdout();
    match format {
        Format::Json => {
            writeln!(
                stdout,
                "{}",
                json!({ "part": part, "status": name, "message": message, "remedy": remedy })
            )?;
        }
        Format::Table => {
            let padding = " ".repeat("warning".len() - name.len());
            let message = wrap(&clean(message), INDENT);
            writeln!(stdout, "{}{padding}  {part:<12} {message}", paint(style, name))?;
            // The list of what was tried has lines of its own.
            let (remedy, list) = remedy.split_at(remedy.find('\n').unwrap_or(remedy.len()));
            if !remedy.is_empty() {
                writeln!(stdout, "{:9}what to do:  {}{list}", "", wrap(remedy, INDENT))?;
            }
        }
    }
    Ok(())
}
