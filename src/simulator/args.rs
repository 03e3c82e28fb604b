//! The arguments of `eni-gateway simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

use super::auth::AccessKey;
use super::duration::parse_signed;
use super::duration_range::DurationRange;
use super::settings::Settings;
use super::throttle::ActionRate;
use super::world::file::{self, WorldFile};

const EXAMPLES: &str = "\
Examples:
  eni-gateway simulator
  eni-gateway simulator --listen 127.0.0.1:18080 --attach-time 1s..5s \\
    --visibility-lag 3s
  eni-gateway simulator --print-world > world.toml
  eni-gateway simulator --world world.toml
  curl http://127.0.0.1:18080/_simulator/        # lists the control endpoints
  curl http://127.0.0.1:18080/_simulator/journal # calls, and ENIs of instances

The key is read from ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and \
ALIBABA_CLOUD_SECURITY_TOKEN, as the gateway reads it. The simulator also knows one key of its own, \
which it prints.";

/// Runs a simulator of ENS: a real HTTP server that checks signatures and behaves as ENS is
/// documented to.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address of the simulator; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:18080")]
    pub listen: SocketAddr,

    /// Initial world, as TOML or JSON [default: an example of each case]
    #[arg(long, value_name = "FILE")]
    pub world: Option<PathBuf>,

    /// Print the world as TOML, and exit
    #[arg(long)]
    pub print_world: bool,

    /// Time from an accepted attach to InUse, such as 2s or 1s..3s
    #[arg(long, value_name = "TIME")]
    pub attach_time: Option<DurationRange>,

    /// Time from an accepted detach to Available
    #[arg(long, value_name = "TIME")]
    pub detach_time: Option<DurationRange>,

    /// Age of the state that a describe shows
    #[arg(long, value_name = "TIME")]
    pub visibility_lag: Option<DurationRange>,

    /// Maximum number of ENIs on an instance
    #[arg(long, value_name = "N")]
    pub eni_limit: Option<usize>,

    /// Do not enforce the limit, to see in the journal what callers do
    #[arg(long)]
    pub no_limit: bool,

    /// Throttle an action, such as AttachNetworkInterface=5 (a second); may be repeated
    #[arg(long = "rate", value_name = "ACTION=N")]
    pub rates: Vec<ActionRate>,

    /// Time by which ENS's clock is ahead, such as 20s or -20s
    #[arg(long, value_name = "TIME", default_value = "0s", allow_hyphen_values = true, value_parser = parse_signed)]
    pub clock_ahead: jiff::SignedDuration,

    /// Maximum age of a request's date, such as 15m
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_signed)]
    pub date_window: jiff::SignedDuration,

    /// Key of the control endpoints for other hosts, as `Authorization: Bearer KEY`; without it
    /// only this host can use them
    #[arg(
        long,
        value_name = "KEY",
        env = "ENI_GATEWAY_SIMULATOR_CONTROL_KEY",
        hide_env_values = true
    )]
    pub control_key: Option<SecretString>,

    /// Seed of all random choices
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Args {
    /// The world of these arguments.
    ///
    /// # Errors
    /// The world file cannot be read or is invalid.
    pub fn world(&self) -> Result<WorldFile, file::Error> {
        let mut world = match &self.world {
            Some(path) => WorldFile::read(path)?,
            None => WorldFile::default_world(),
        };
        let rules = &mut world.rules;
        rules.attach_time = self.attach_time.unwrap_or(rules.attach_time);
        rules.detach_time = self.detach_time.unwrap_or(rules.detach_time);
        rules.lag_by_id = self.visibility_lag.unwrap_or(rules.lag_by_id);
        rules.lag_by_instance = self.visibility_lag.unwrap_or(rules.lag_by_instance);
        rules.eni_limit = self.eni_limit.unwrap_or(rules.eni_limit);
        rules.enforce_limit &= !self.no_limit;
        rules.seed = self.seed.unwrap_or(rules.seed);
        Ok(world)
    }

    /// The settings of these arguments, with the simulator's own key besides this one.
    #[must_use]
    pub fn settings(&self, key: Option<AccessKey>) -> Settings {
        Settings {
            // The first key of an id counts.
            keys: key.into_iter().chain([AccessKey::default()]).collect(),
            rates: self.rates.iter().map(|ActionRate(action, rate)| (*action, *rate)).collect(),
            clock_ahead: self.clock_ahead,
            date_window: self.date_window,
            control_key: self.control_key.clone(),
            ..Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Args {
        Cli::try_parse_from([&["simulator"], arguments].concat()).unwrap().args
    }

    #[test]
    fn without_arguments_it_is_the_default_world() {
        assert_eq!(parse(&[]).world().unwrap(), WorldFile::default_world());
    }

    #[test]
    fn arguments_win_over_the_world() {
        let args = parse(&[
            "--attach-time",
            "1s..3s",
            "--no-limit",
            "--clock-ahead",
            "-20s",
            "--rate",
            "StopInstance=2",
        ]);
        let rules = args.world().unwrap().rules;
        assert_eq!(rules.attach_time.to_string(), "1s..3s");
        assert!(!rules.enforce_limit);
        let settings = args.settings(Some(AccessKey::new("own", "secret")));
        assert_eq!(settings.keys.len(), 2);
        assert_eq!(settings.clock_ahead.as_secs(), -20);
        assert_eq!(settings.rates.len(), 1);
    }
}
