#!/usr/bin/env bash
# Compares what the library exports with the last release, and fails when something that programs may rely on is gone or different
# and CHANGELOG.md does not say so: its section "Unreleased" must then have a "### Changed" or "### Removed".
#
#   scripts/apidiff.sh [TAG]      TAG defaults to the last tag vX.Y.Z that leads to HEAD; without one there is nothing to compare
#
# Compatible changes are listed, for the changelog's sake. Commands, examples and tests export nothing to anybody.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag="${1:-$(git describe --tags --abbrev=0 --match 'v[0-9]*.[0-9]*.[0-9]*' 2>/dev/null || true)}"
if [ -z "$tag" ]; then
	echo "there is no release yet: nothing to compare the API with"
	exit 0
fi
module="$(go list -m)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

go build -o "$scratch/apidiff" golang.org/x/exp/cmd/apidiff
mkdir "$scratch/old"
git archive "$tag" | tar -x -C "$scratch/old"
# export_api DIRECTORY FILE writes what the module in DIRECTORY exports.
export_api() { (cd "$1" && GOFLAGS=-buildvcs=false "$scratch/apidiff" -m -w "$2" "$module" 2> >(ignored >&2)); }
# ignored leaves out what apidiff says of packages that nobody else can import.
ignored() { grep -v '^Ignoring internal package ' || true; }
export_api "$scratch/old" "$scratch/old.api"
export_api . "$scratch/new.api"

# public leaves out what belongs to packages that are not for others.
public() { grep -vE '^- \./(cmd|examples|integration)[/.]|^- package [^ ]*/(cmd|examples|integration)[/:]' || true; }
compare() { "$scratch/apidiff" -m "$@" "$scratch/old.api" "$scratch/new.api" 2> >(ignored >&2) | public; }
compare
bad="$(compare -incompatible | grep '^- ' || true)"
if [ -z "$bad" ]; then
	echo "the API is compatible with $tag"
	exit 0
fi
if awk '/^## /{unreleased = ($2 == "Unreleased")} unreleased && /^### (Changed|Removed)/{found = 1} END {exit !found}' CHANGELOG.md; then
	echo "the API is not compatible with $tag; CHANGELOG.md says what has changed"
	exit 0
fi
printf 'not compatible with %s, and CHANGELOG.md says nothing of it under "Unreleased":\n%s\n' "$tag" "$bad"
exit 1
