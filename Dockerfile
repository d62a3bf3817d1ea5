# A static binary, the certificate authorities, and nothing else.
#
#   make image          or: docker build -t acs-identity-operator .
#
# The version is that of rust-toolchain.toml. For another platform build on it, or let the builder
# emulate it (docker build --platform linux/arm64): the target is that of the machine.
#
# Another base, such as a mirror's or one pinned by its digest (Debian with this version of Rust):
#   docker build --build-arg BUILD_IMAGE=mirror.example/rust:1.95.0-slim-bookworm@sha256:... .
ARG BUILD_IMAGE=rust:1.95.0-slim-bookworm
FROM ${BUILD_IMAGE} AS build
# musl: glibc's resolver needs its shared libraries even in a static binary. musl-gcc is for ring.
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools \
 && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN target="$(uname -m)-unknown-linux-musl" \
 && cargo build --locked --release --bin acs-identity-operator --target "$target" \
 && mv "target/$target/release/acs-identity-operator" /acs-identity-operator \
 && if readelf --dynamic /acs-identity-operator | grep NEEDED; then echo "not static" >&2; exit 1; fi

FROM scratch
# `make image` sets them.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="acs-identity-operator" \
      org.opencontainers.image.description="Short-lived Azure Communication Services credentials as Kubernetes resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The certificate authorities to trust; the chart's value caBundle adds others.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /acs-identity-operator /acs-identity-operator
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/acs-identity-operator"]
