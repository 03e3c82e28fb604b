# The entry points of the repository, one recipe for each script. `just` lists them. Nothing needs
# just: a recipe only calls the command that stands in it. CI calls .ci/run.

# Arguments keep their quotes.
set positional-arguments

# Lists the recipes.
default:
    @just --list --unsorted

# Everything that must hold before a change is merged: half an hour.
ci:
    .ci/run

# All tests, or a selection: just test -E 'test(config::)'.
test *arguments:
    tests/run "$@"

# What to run before each commit.
lint:
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    tools/clippy
    .venv/bin/buf lint proto

# Formats the code.
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# The documentation of the code, in target/doc.
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

# Writes the generated parts of the documents again: tables in docs, snapshots, the chart's README.
update:
    UPDATE_DOCS=1 INSTA_UPDATE=always INSTA_FORCE_PASS=1 tests/run -E 'test(docs::) or test(config::) or test(cli::) or test(grpc::errors)'
    tests/chart/run --update

# Compares the cost of each call with a floor: just bench --quick. See benches/README.md.
bench *arguments:
    cargo bench --profile dist --features jemalloc --bench system -- "$@"

# The model and the simulation: just prove -E 'binary(model)'. SIM_SEEDS sets the number of seeds.
prove *arguments:
    tests/prove "$@"

# Takes protections that have no switch out of a copy of the source: a named test must fail.
mutants *arguments:
    tests/mutants "$@"

# Fault runs on real gateways and real Redis servers: just faults --for 20m --seed 7.
faults *arguments:
    tests/faults "$@"

# Attacks on a replica beside a healthy client: just attacks silent never_reads.
attacks *arguments:
    tests/attacks/run "$@"

# The fuzz targets: just fuzz 300 record runs one of them for 300 s.
fuzz *arguments:
    fuzz/run "$@"

# The Helm chart, with Helm 4 and 3.
chart *arguments:
    tests/chart/run "$@"

# The container image, built and run. Needs root.
image *arguments:
    tests/image/run "$@"

# Alerts and dashboard, with a real Prometheus.
observe:
    tests/observe/run

# The Go client of docs/clients.md, against a real gateway.
go *arguments:
    tests/go/run "$@"

# The Node client of docs/clients.md, against a real gateway.
node *arguments:
    tests/node/run "$@"

# The Java and C# of docs/clients.md, generated, and the Java compiled.
java:
    tests/java/run

# The API as JSON over HTTP, through a real Envoy.
envoy *arguments:
    tests/envoy/run "$@"

# Tokens of OpenID Connect issuers from outside this project.
oidc *arguments:
    tests/oidc/run "$@"

# The simulator, the gateway and twelve callers in one process.
demo *arguments:
    cargo run --locked -- demo "$@"

# Tests of tools/release.
release-test *arguments:
    tests/release/run "$@"

# A release: just release 0.2.0 --dry-run. docs/releasing.md describes the process.
release *arguments:
    tools/release "$@"
