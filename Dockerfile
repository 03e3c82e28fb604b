# One static binary, the authorities it trusts, its licence and its list of parts (SBOM). With docker or with buildah:
#
#   docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" --tag eni-gateway:0.1.0 .
#
# For the other of x86_64 and aarch64 it cross-compiles, without emulation: `docker buildx build --platform linux/arm64 …`.
#
# The same digest each time: `docker buildx build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
# --output type=image,rewrite-timestamp=true,…`, or `buildah build --timestamp "$(git log -1 --format=%ct)"`. A digest in
# RUST_IMAGE (docker.io/library/rust:…@sha256:…) pins the build stage, too.

ARG RUST_VERSION=1.95.0
ARG RUST_IMAGE=docker.io/library/rust:${RUST_VERSION}-bookworm

# hadolint ignore=DL3006,DL3029
FROM --platform=${BUILDPLATFORM} ${RUST_IMAGE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
ARG TARGETARCH
# The compiler and the linker of the target. Those of this machine are in the base. Kernels of aarch64 have pages of 4, 16 or
# 64 KiB, and jemalloc takes any up to the size that it was built for.
# hadolint ignore=DL3008
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) machine=x86_64 gcc=gcc-x86-64-linux-gnu libc=libc6-dev-amd64-cross ;; \
      arm64) machine=aarch64 gcc=gcc-aarch64-linux-gnu libc=libc6-dev-arm64-cross ;; \
      *) echo "no build for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    if [ "$machine" != "$(uname -m)" ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends "$gcc" "$libc"; \
      rm -rf /var/lib/apt/lists/*; \
      rustup target add "$machine-unknown-linux-gnu"; \
    fi; \
    printf '[build]\ntarget = "%s-unknown-linux-gnu"\nrustflags = ["-C", "target-feature=+crt-static", "-C", "linker=%s-linux-gnu-gcc"]\n' \
      "$machine" "$machine" >"$CARGO_HOME/config.toml"; \
    if [ "$machine" = aarch64 ]; then printf '[env]\nJEMALLOC_SYS_WITH_LG_PAGE = "16"\n' >>"$CARGO_HOME/config.toml"; fi; \
    ln -s "$(command -v "$machine-linux-gnu-strip")" /usr/local/bin/strip-target
# The dependencies, in a layer that a change of our own code leaves as it is: an empty program stands in for ours.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --profile dist --features jemalloc --bin eni-gateway
COPY LICENSE ./
COPY tools/sbom tools/sbom
COPY src src
# After the dependencies, which do not depend on it. There is no .git in here to ask.
ARG COMMIT=unknown
ENV ENI_GATEWAY_BUILD_COMMIT=${COMMIT}
# Lines of code are four fifths of the binary; the names that a backtrace shows stay. The files are touched because cargo
# compares times, and those of the context may be older than the stand-in.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --profile dist --features jemalloc --bin eni-gateway \
    && mkdir -p /image/usr/local/bin /image/usr/share/doc/eni-gateway \
    && strip-target --strip-debug -o /image/usr/local/bin/eni-gateway target/*/dist/eni-gateway \
    && tools/sbom >/image/usr/share/doc/eni-gateway/sbom.cdx.json \
    && install -m 0644 LICENSE /image/usr/share/doc/eni-gateway/LICENSE \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch AS image
ARG VERSION=0.1.0
ARG COMMIT=unknown
# The address of the repository.
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="eni-gateway" \
      org.opencontainers.image.description="gRPC gateway that attaches elastic network interfaces to Alibaba Cloud ENS instances" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
COPY --from=build /image /
# They win over a settings' file. Beyond loopback plaintext has to be wanted: without TLS or ENI_GATEWAY_GRPC__ALLOW_PLAINTEXT=true it
# says so and ends.
ENV ENI_GATEWAY_GRPC__LISTEN=0.0.0.0:50051 ENI_GATEWAY_ADMIN__LISTEN=0.0.0.0:9090
EXPOSE 50051 9090
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/eni-gateway"]
CMD ["serve"]
