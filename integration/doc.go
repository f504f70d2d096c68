// Package integration tests the program as people and scripts use it: it builds the real binary once and drives real processes
// through command line, JSON lines, ready files, signals and exit codes.
//
//	go test ./integration                        small contents, seconds; what `go test ./...` runs
//	STT_INTEGRATION=1 go test ./integration      large contents, many kills, full disks (the latter as root)
//	STT_DOCKER=1 go test ./integration           also the compose network in containers
//	STT_RACE=1 go test ./integration             the binary is built with the race detector
//	STT_TEST_SEED=N go test ./integration        repeats the random choices of a run that printed seed N
//
// The harness is three files. process_test.go owns one process, cluster_test.go a network of them, and tree_test.go makes and compares
// what is seeded and fetched. Nothing sleeps for a fixed time: every wait is for an event, and has a deadline.
//
// Package arch below checks which package of the module may import which; vectors holds a second implementation of the protocol.
package integration
