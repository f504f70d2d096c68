# Short names for the commands that are used often. Nothing here is needed to build: `go build ./cmd/sttnode` does.

.PHONY: build test race lint fuzz integration image image-scratch demo ci

build:          ## the binary, in bin/
	CGO_ENABLED=0 go build -trimpath -o bin/sttnode ./cmd/sttnode

test:           ## what the README promises: no root, no docker, under three minutes
	go test ./...

race:           ## the same under the race detector, processes included
	bash .ci/run race

lint:           ## gofmt, vet, staticcheck, unfinished words, the API against the last release
	bash .ci/run fmt vet words api staticcheck

fuzz:           ## every fuzz test for a few seconds; FUZZ_SECONDS is the total
	bash .ci/run fuzz

integration:    ## real processes with large content, full disks (root), containers (docker)
	STT_INTEGRATION=1 STT_DOCKER=1 go test -count=1 -v -timeout=15m ./integration

image:          ## the container image, compiled inside the golang image
	docker build -t sttnode:local .

image-scratch:  ## the same image around a binary compiled here: needs no registry
	scripts/image.sh sttnode:local

demo:           ## a whole network in one process
	go run ./cmd/sttnode demo

ci:             ## everything that must hold before a change is merged
	bash .ci/run
