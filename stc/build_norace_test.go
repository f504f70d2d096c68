//go:build !race

package stc

const raceEnabled = false
