//! `descriptors`: writes the API's descriptor set.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::error::Error;
use crate::grpc;

const EXAMPLES: &str = "\
Examples:
  eni-gateway descriptors eni-gateway.binpb
  eni-gateway descriptors > eni-gateway.binpb

Envoy's JSON transcoder, `buf curl --schema` and `grpcurl -protoset` read the file.";

/// Arguments of `descriptors`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// File to write; stdout if not given
    file: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Error> {
    let set = grpc::descriptors().map_err(|error| Error::failed(&error))?;
    match args.file {
        None => Ok(io::stdout().write_all(&set)?),
        Some(file) => std::fs::write(&file, set).map_err(|error| {
            Error::Failed(format!("{} cannot be written: {error}", file.display()))
        }),
    }
}
