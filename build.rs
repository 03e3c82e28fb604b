//! Compiles the proto with protox, so that no protoc is needed, and records the commit for `--version`.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message as _;

const PROTO: &str = "eni/gateway/v1/attachment_service.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // For reflection: with every import, and with the comments.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let codec = "crate::grpc::codec::SmallBuffers";
    tonic_prost_build::configure().codec_path(codec).compile_fds(descriptors)?;
    // A binary whose safety checks can be switched off says so wherever it names itself.
    let mutations = std::env::var_os("CARGO_FEATURE_MUTATIONS").map_or("", |_| "-mutations");
    println!("cargo:rustc-env=ENI_GATEWAY_COMMIT={}{mutations}", commit());
    Ok(())
}

/// The commit the binary was built from: given by the image's build, or asked of git, or unknown.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=ENI_GATEWAY_BUILD_COMMIT");
    if let Ok(commit) = std::env::var("ENI_GATEWAY_BUILD_COMMIT") {
        return commit;
    }
    // Where HEAD lies differs in a linked work tree. A path that does not exist would rebuild each time.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) =
            git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists())
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
