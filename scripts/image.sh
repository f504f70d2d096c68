#!/usr/bin/env bash
# Builds the container image around a static binary made by the Go tools of this machine, `FROM scratch`: no registry is asked for anything.
#
#   scripts/image.sh [TAG]      TAG defaults to sttnode:local, the one docker-compose.yml uses
#
# The image equals that of `docker build .`, which compiles inside the golang image instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag="${1:-sttnode:local}"
context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT

# The directories are there so that volumes mounted on them start out owned by the image's user.
mkdir -p "$context"/rootfs/{data,network,tmp}
chmod 0700 "$context"/rootfs/{data,network}
chmod 1777 "$context"/rootfs/tmp
CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags='-s -w' -o "$context/rootfs/sttnode" ./cmd/sttnode
docker build --quiet --file Dockerfile.scratch --tag "$tag" "$context"
