//! `capacity`: shows how many slots of instances are free.

use std::io::Write as _;
use std::time::Duration;

use anstyle::Style;

use super::client;
use super::coverage::age;
use super::error::Error;
use super::json;
use super::output::Format;
use super::style::{self, BAD, GOOD, HEAD, clean};
use crate::grpc::proto::{
    BatchGetInstanceCapacitiesRequest, GetInstanceCapacityRequest, InstanceCapacity,
};
use crate::model::InstanceId;

const EXAMPLES: &str = "\
Examples:
  eni-gateway capacity i-5p67acfmxazb4p
  eni-gateway capacity i-1 i-2 i-3 --max-age 10s
  eni-gateway capacity i-1 i-2 -o json | jq -r 'select(.free > 2) | .instanceId'

It reserves nothing: a later attach may be refused. What is not known is `-`, or has no field in \
JSON; it then exits with 75, or with 1 if ENS does not know an instance.";

/// Instances in one call.
const AT_ONCE: usize = 100;
const COLUMNS: [&str; 8] =
    ["INSTANCE", "LIMIT", "ATTACHED", "IN FLIGHT", "FREE", "QUEUE", "STATUS", "ENS ASKED"];

/// Arguments of `capacity`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The instances
    #[arg(required = true)]
    instances: Vec<InstanceId>,
    /// Maximum age of ENS's answers, such as 10s. With 0s ENS is always asked [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_age: Option<Duration>,
    #[command(flatten)]
    pub(super) client: client::Options,
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    let mut client = args.client.connect().await?;
    let max_age = args.max_age.map(|age| {
        age.try_into().map_err(|_| Error::Usage(format!("--max-age {age:?} is too long")))
    });
    let max_age = max_age.transpose()?;
    let mut capacities = Vec::new();
    if let [instance] = &args.instances[..] {
        let instance_id = instance.to_string();
        let request = args.client.request(GetInstanceCapacityRequest { instance_id, max_age });
        let response = client.get_instance_capacity(request).await?.into_inner();
        capacities.extend(response.instance_capacity);
    }
    for instances in args.instances.chunks(AT_ONCE).filter(|_| args.instances.len() > 1) {
        let instance_ids = instances.iter().map(ToString::to_string).collect();
        let request = BatchGetInstanceCapacitiesRequest { instance_ids, max_age };
        let response = client.batch_get_instance_capacities(args.client.request(request)).await?;
        capacities.extend(response.into_inner().instance_capacities);
    }
    print(&capacities, args.client.output)?;
    match capacities.into_iter().filter_map(|capacity| capacity.error).max_by_key(is_lasting) {
        Some(error) => Err(Error::Refused(Box::new(error.into()))),
        None => Ok(()),
    }
}

/// Whether a later call gets the same answer.
fn is_lasting(error: &crate::grpc::proto::AttachmentError) -> bool {
    tonic::Code::from_i32(error.code) != tonic::Code::Unavailable
}

fn print(capacities: &[InstanceCapacity], format: Format) -> Result<(), Error> {
    let mut stdout = anstream::stdout();
    if format == Format::Json {
        for capacity in capacities {
            writeln!(stdout, "{}", json::capacity(capacity))?;
        }
        return Ok(());
    }
    let rows: Vec<_> = capacities.iter().map(row).collect();
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].len()]).max().unwrap_or_default()
    });
    let line = |cells: [String; 8], style_of: &dyn Fn(usize) -> Style| {
        let cells = cells.into_iter().zip(widths).enumerate();
        style::row(cells.map(|(column, (cell, width))| (cell, width, style_of(column))))
    };
    writeln!(stdout, "{}", line(COLUMNS.map(str::to_owned), &|_| HEAD))?;
    for (row, capacity) in rows.into_iter().zip(capacities) {
        let style_of = |column| match (COLUMNS[column], capacity.free) {
            ("FREE", Some(0)) => BAD,
            ("FREE", _) => GOOD,
            _ => Style::new(),
        };
        let detail = capacity.error.as_ref().map_or_else(String::new, |error| {
            clean(&format!("{}: {}", error.reason, error.message))
        });
        writeln!(stdout, "{}{}", line(row, &style_of), style::below(&detail))?;
    }
    Ok(())
}

fn row(capacity: &InstanceCapacity) -> [String; 8] {
    let count =
        |count: Option<i32>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        clean(&capacity.instance_id),
        count(capacity.limit),
        count(capacity.attached),
        count(capacity.in_flight),
        count(capacity.free),
        count(capacity.queue_length),
        or_dash(capacity.instance_status.as_deref().map(clean)),
        or_dash(capacity.observe_time.and_then(age)),
    ]
}
