//! Compiles the proto with protox, so that no protoc is needed, and records the commit for `--version`.

use std::path::PathBuf;
use std::process::Command;

const PROTO: &str = "eni/gateway/v1/attachment_service.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".")
        .compile_fds(descriptors)?;
    println!("cargo:rustc-env=ENI_GATEWAY_COMMIT={}", commit());
    Ok(())
}

fn prost_encode(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}

/// The commit the binary was built from: given by the image's build, or asked of git, or unknown.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=ENI_GATEWAY_BUILD_COMMIT");
    if let Ok(commit) = std::env::var("ENI_GATEWAY_BUILD_COMMIT") {
        return commit;
    }
    for path in [".git/HEAD", ".git/logs/HEAD"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |commit| commit.trim().to_owned())
}
