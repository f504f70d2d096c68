//go:build race

package transport

// Under the race detector sync.Pool drops buffers at random, so allocations can't be counted.
const raceEnabled = true
