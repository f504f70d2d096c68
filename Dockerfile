# The image of a node: one static binary on nothing, run by an unprivileged user.
#
#   docker build -t sttnode:local .
#
# scripts/image.sh builds the same image without a registry, around a binary compiled on the host.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir -p /rootfs/data /rootfs/network /rootfs/tmp && \
    chmod 0700 /rootfs/data /rootfs/network && \
    chmod 1777 /rootfs/tmp && \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /rootfs/sttnode ./cmd/sttnode

FROM scratch
COPY --from=build --chown=65532:65532 /rootfs/ /
USER 65532:65532
# /data holds the node's identity and content, /network the seed that all nodes of the network share.
ENV STTNODE_DIR=/data STTNODE_SHARED_SEED_FILE=/network/shared.seed
EXPOSE 4700/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/sttnode"]
CMD ["version"]
