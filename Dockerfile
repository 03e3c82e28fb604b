# One static binary and the authorities it trusts, nothing else. With docker or with buildah, on x86_64 and aarch64:
#
#   docker build --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" --tag eni-gateway:0.1.0 .
#
# The same digest each time: `docker buildx build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
# --output type=image,rewrite-timestamp=true,…`, or `buildah build --timestamp "$(git log -1 --format=%ct)"`.

ARG RUST_VERSION=1.95.0

FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY . .
# There is no .git in here to ask. Lines of code are four fifths of the binary; the names that a backtrace shows stay.
ARG COMMIT=unknown
ENV ENI_GATEWAY_BUILD_COMMIT=${COMMIT} RUSTFLAGS="-C target-feature=+crt-static"
# Kernels of aarch64 have pages of 4, 16 or 64 KiB, and jemalloc takes any up to the size that it was built for.
RUN target="$(uname -m)-unknown-linux-gnu" \
    && if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && cargo build --locked --profile dist --features jemalloc --target "$target" --bin eni-gateway \
    && mkdir -p /image/usr/local/bin \
    && strip --strip-debug -o /image/usr/local/bin/eni-gateway "target/$target/dist/eni-gateway" \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch AS image
ARG VERSION=0.1.0
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="eni-gateway" \
      org.opencontainers.image.description="gRPC gateway that attaches elastic network interfaces to Alibaba Cloud ENS instances" \
      org.opencontainers.image.licenses="Apache-2.0" \
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
