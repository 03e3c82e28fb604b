//! `simulator`: the ENS simulator alone.

use super::error::Error;
use crate::simulator::{self, Args};

pub(super) async fn run(args: Args) -> Result<(), Error> {
    simulator::run(args).await.map_err(|error| match error {
        simulator::Error::World(_) => Error::Usage(error.to_string()),
        error => Error::failed(&error),
    })
}
