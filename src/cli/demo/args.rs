//! The arguments of `eni-gateway demo`.

const EXAMPLES: &str = "\
Examples:
  eni-gateway demo
  eni-gateway demo --callers 40 --slots 25
  eni-gateway demo --keep

Everything runs in this process: ENS (a simulator), the gateway on 127.0.0.1:50051, and the callers.";

/// Many callers at once, and one instance with too few slots for them.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many call at the same time, each with an ENI of its own
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub callers: u16,
    /// How many ENIs the instance may have
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub slots: u16,
    /// Go on serving afterwards, until interrupted
    #[arg(long)]
    pub keep: bool,
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
    fn nobody_is_no_demo() {
        assert!(Cli::try_parse_from(["demo", "--callers", "0"]).is_err());
        assert!(Cli::try_parse_from(["demo", "--slots", "1001"]).is_err());
    }
}
