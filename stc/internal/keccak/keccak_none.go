//go:build !amd64 || purego

package keccak

const vector = false

func absorb(*[25 * Lanes]uint64, *[Lanes]*byte, int) {
	panic("keccak: there is no assembly for this machine")
}
