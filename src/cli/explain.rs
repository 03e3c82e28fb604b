//! `explain`: prints what the ledger knows of an instance, in sentences.

use std::io::Write as _;

use serde_json::Value;

use super::error::Error;
use super::output::Format;
use super::serve::Settings;
use super::style::{HEAD, clean, paint, wrap};
use crate::app::explain::{Statement, explain_instance};
use crate::model::{InstanceId, InterfaceId};

const EXAMPLES: &str = "\
It reads the ledger, not a gateway, and changes nothing. ENS is not asked: what ENS shows now may \
differ. `eni-gateway list` asks.

Examples:
  eni-gateway explain i-5p67acfmxazb4p --config /etc/eni-gateway.toml
  eni-gateway explain i-5p67acfmxazb4p eni-58z57orgmt6d1 \\
    --ledger-url redis://127.0.0.1:6379/0
  eni-gateway explain i-5p67acfmxazb4p -o json \\
    | jq 'select(.subject == \"slots\").facts'";

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instance
    instance: InstanceId,
    /// The ENI; all of the instance if left out
    eni: Option<InterfaceId>,
    /// Output: lines for people, or one JSON object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
    // Last, because its heading would cover further options.
    #[command(flatten)]
    settings: Settings,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let loaded = args.settings.load().map_err(|faults| Error::Usage(faults.to_string()))?;
    let explained = explain_instance(&loaded.config, &args.instance, args.eni.as_ref()).await;
    let url = &loaded.config.ledger.url;
    let statements = explained.map_err(|error| Error::of_ledger(url, error))?;
    let mut stdout = anstream::stdout();
    for statement in &statements {
        match args.output {
            Format::Json => {
                writeln!(stdout, "{}", serde_json::to_value(statement).unwrap_or(Value::Null))?
            }
            Format::Table => writeln!(stdout, "{}", line(statement))?,
        }
    }
    Ok(())
}

/// Column of the sentences.
const INDENT: usize = 22;

fn line(statement: &Statement) -> String {
    let about = match &statement.network_interface_id {
        Some(eni) => eni.as_str(),
        None => statement.subject.name(),
    };
    let text = wrap(&clean(&statement.text), INDENT);
    format!("{}  {text}", paint(HEAD, &format!("{about:<20}")))
}
