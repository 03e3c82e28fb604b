//! `simulator`: the ENS simulator alone.

use super::error::Error;
use crate::simulator::{self, Args};

pub(super) async fn run(args: Args) -> Result<(), Error> {
    simulator::run(args).await.map_err(|error| match error {
        simulator::Error::World(_) => Error::Usage(error.to_string()),
        simulator::Error::Listen { .. } => Error::Failed(format!(
            "{error}\n  what to do: stop what listens there, or take a free port with --listen \
             127.0.0.1:0"
        )),
        error => Error::failed(&error),
    })
}
