//! `demo`: every part of the gateway, on real sockets, in one process.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::caller::Caller;
use super::env::{self, DemoEnv, INSTANCE};
use super::{Args, Screen, StatusTable, Summary, next};
use crate::cli::client::Options;
use crate::cli::error::Error;
use crate::cli::serve::stop_signal;
use crate::telemetry::{self, LogFormat, Telemetry};

/// Time limit of the demo, far above its usual time.
const LIMIT: Duration = Duration::from_secs(60);
/// Time limit for exporting the last traces.
const FLUSH: Duration = Duration::from_secs(3);

pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let telemetry = telemetry(&args)?;
    let stop = stop_signal()?;
    let mut stage = DemoEnv::build(&args).await?;
    let mut screen = Screen::of_stdout(usize::from(args.callers));
    let played = tokio::select! {
        played = play(&args, &stage, &mut screen) => played,
        () = stop.cancelled() => Err(Error::Failed("interrupted before the end".to_owned())),
    };
    let ended = match played {
        Ok(table) => end(&args, &mut stage, &table, &mut screen, stop.cancelled()).await,
        Err(error) => Err(error),
    };
    stage.close().await;
    telemetry.flush(FLUSH).await;
    ended
}

/// Sets up logs to a file or none, because they would break the screen, and traces by the `OTEL_*`
/// variables.
fn telemetry(args: &Args) -> Result<Telemetry, Error> {
    let text =
        telemetry::Settings { format: LogFormat::Text { colours: false }, follow_sampling: true };
    let installed = match &args.log {
        None => telemetry::init_to(text, std::io::sink),
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|error| {
                Error::Usage(format!("--log {} cannot be written: {error}", path.display()))
            })?;
            telemetry::init_to(text, std::sync::Arc::new(file))
        }
    };
    installed.map_err(|error| Error::failed(&error))
}

fn intro(args: &Args, stage: &DemoEnv) -> Vec<String> {
    let Args { callers, slots, .. } = args;
    vec![
        format!("ENS (simulated) on {}, the gateway on {}.", stage.simulator(), stage.endpoint()),
        format!(
            "{callers} concurrent callers, each with its own ENI, for {INSTANCE}, which has \
            {slots} slots."
        ),
        String::new(),
    ]
}

/// Starts all callers at once, and shows their progress.
async fn play(
    args: &Args,
    stage: &DemoEnv,
    screen: &mut Screen<std::io::Stdout>,
) -> Result<StatusTable, Error> {
    let options = Options::at(&stage.endpoint());
    let callers = try_join_all((1..=usize::from(args.callers)).map(async |number| {
        let (eni, client) = (env::eni(number)?, options.connect().await?);
        Ok::<_, Error>(Caller { number, eni, options: &options, client })
    }));
    let callers = callers.await?;
    screen.say(&intro(args, stage))?;
    let (events, shown) = mpsc::unbounded_channel();
    let began = Instant::now();
    let run = join_all(
        callers.into_iter().map(|caller| caller.run(began, began + LIMIT, events.clone())),
    );
    // The screen ends when the last caller does.
    drop(events);
    let (_, table) = tokio::join!(run, screen.show(shown));
    Ok(table?)
}

/// Prints the result, and continues to serve with `--keep`.
async fn end(
    args: &Args,
    stage: &mut DemoEnv,
    table: &StatusTable,
    screen: &mut Screen<std::io::Stdout>,
    stopped: impl Future<Output = ()>,
) -> Result<(), Error> {
    let summary = Summary::new(table, usize::from(args.slots), stage.journal());
    screen.say(&summary.lines())?;
    if args.keep {
        let program = std::env::args().next().unwrap_or_else(|| "eni-gateway".to_owned());
        let (callers, slots) = (usize::from(args.callers), usize::from(args.slots));
        screen.say(&next::lines(&program, stage, table, callers, slots)?)?;
        tokio::select! {
            () = stopped => {}
            error = stage.broken() => return Err(error),
        }
    }
    match summary.faults().len() {
        0 => Ok(()),
        _ => Err(Error::Failed("the result breaks a guarantee".to_owned())),
    }
}
