//! The arguments of `eni-gateway demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  eni-gateway demo
  eni-gateway demo --callers 40 --slots 25
  eni-gateway demo --keep
  eni-gateway demo --listen 127.0.0.1:0 --log demo.log

Everything runs in this process: ENS (a simulator), the gateway, and the callers. It needs no \
account and reads no settings. It exits with 0 only if the journal of ENS agrees with the \
guarantees.";

/// Many callers at once, and one instance with too few slots for them.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Number of concurrent callers, each with its own ENI: 1 to 200
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub callers: u16,
    /// Maximum number of ENIs on the instance: 1 to 100
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub slots: u16,
    /// Address of the gateway; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Continue to serve afterwards, until interrupted
    #[arg(long)]
    pub keep: bool,
    /// File for the gateway's log, filtered by RUST_LOG [default: no log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn twelve_callers_want_ten_slots() {
        let Cli { args } = Cli::try_parse_from(["demo"]).unwrap();
        assert_eq!((args.callers, args.slots, args.keep), (12, 10, false));
    }

    #[test]
    fn a_demo_needs_a_caller() {
        assert!(Cli::try_parse_from(["demo", "--callers", "0"]).is_err());
        assert!(Cli::try_parse_from(["demo", "--slots", "101"]).is_err());
    }
}
