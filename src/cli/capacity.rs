//! `capacity`: shows how many slots of instances are free.

use std::io::Write as _;
use std::time::Duration;

use super::client;
use super::coverage::age;
use super::error::Error;
use super::json;
use super::output::Format;
use super::style::{BAD, GOOD, HEAD, clean, paint};
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
const COLUMNS: [&str; 9] = [
    "INSTANCE",
    "LIMIT",
    "ATTACHED",
    "IN FLIGHT",
    "FREE",
    "QUEUE",
    "STATUS",
    "ENS ASKED",
    "DETAIL",
];

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
    let widths: [usize; 9] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].len()]).max().unwrap_or_default()
    });
    writeln!(
        stdout,
        "{}",
        line(&COLUMNS.map(str::to_owned), &widths, |_, cell| paint(HEAD, cell))
    )?;
    for (row, capacity) in rows.iter().zip(capacities) {
        let style = match capacity.free {
            Some(0) => BAD,
            _ => GOOD,
        };
        let painted = |column, cell: &str| {
            if COLUMNS[column] == "FREE" { paint(style, cell) } else { cell.to_owned() }
        };
        writeln!(stdout, "{}", line(row, &widths, painted))?;
    }
    Ok(())
}

fn line(cells: &[String; 9], widths: &[usize; 9], paint: impl Fn(usize, &str) -> String) -> String {
    let cells = cells.iter().zip(widths).enumerate();
    // Padded first, because escape sequences have no width.
    let cells = cells.map(|(column, (cell, width))| paint(column, &format!("{cell:width$}  ")));
    cells.collect::<String>().trim_end().to_owned()
}

fn row(capacity: &InstanceCapacity) -> [String; 9] {
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
        capacity.error.as_ref().map_or_else(String::new, |error| {
            clean(&format!("{}: {}", error.reason, error.message))
        }),
    ]
}
