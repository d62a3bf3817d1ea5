# Two images of static binaries, the certificate authorities, and nothing else:
#
#   docker build .                     the operator, and the plugin for Jobs and `helm test`
#   docker build --target emulator .   the emulator, for trying it out
#
# `make image` and `make emulator-image` do so, with labels. .ci/image.sh holds the steps.
#
# The version is that of rust-toolchain.toml. Alpine's own target is static, and the image has the C compiler
# that ring needs: neither apt nor rustup is called. The binaries are for the machine's architecture; for another
# one build on it, or let the builder emulate it (docker build --platform linux/arm64).
#
# Another base, such as a mirror's or one pinned by its digest (Alpine with this version of Rust):
#   docker build --build-arg BUILD_IMAGE=mirror.example/rust:1.95.0-alpine@sha256:... .
# Without network: `make vendor.tar` first, where there is one. Dependencies then come from that file.
ARG BUILD_IMAGE=rust:1.95.0-alpine
FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY .ci/image.sh vendor.tar* ./
RUN ./image.sh tools

# Dependencies change less often than sources: their layers are built from the two files alone.
FROM build AS build-emulator
COPY Cargo.toml Cargo.lock ./
RUN ./image.sh dependencies emulator acs-emulator
COPY src src
RUN ./image.sh program emulator acs-emulator /out \
 && if readelf --dynamic /out/* | grep NEEDED; then echo "not static" >&2; exit 1; fi \
 && mkdir -m 1777 /out/tmp

FROM build AS build-operator
COPY Cargo.toml Cargo.lock ./
RUN ./image.sh dependencies operator acs-identity-operator \
 && ./image.sh dependencies plugin kubectl-acs
COPY src src
RUN ./image.sh program operator acs-identity-operator /out \
 && ./image.sh program plugin kubectl-acs /out \
 && if readelf --dynamic /out/* | grep NEEDED; then echo "not static" >&2; exit 1; fi

FROM scratch AS emulator
# The make targets set them.
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="acs-emulator" \
      org.opencontainers.image.description="Emulator of the Azure Communication Services identity service, for tests" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /LICENSE
COPY --from=build-emulator /out/ /
# Reached from outside, unlike on a developer's machine.
ENV ACS_EMULATOR_LISTEN=0.0.0.0:8765 ACS_EMULATOR_TLS_LISTEN=0.0.0.0:8766
USER 65532:65532
EXPOSE 8765 8766
ENTRYPOINT ["/acs-emulator"]

FROM scratch AS operator
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="acs-identity-operator" \
      org.opencontainers.image.description="Short-lived Azure Communication Services credentials as Kubernetes resources" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /LICENSE
# The certificate authorities to trust; the chart's value caBundle adds others.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-operator /out/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/acs-identity-operator"]
