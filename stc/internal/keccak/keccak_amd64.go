//go:build !purego

package keccak

import "golang.org/x/sys/cpu"

// vector says whether processor and operating system have all that the assembly uses.
var vector = cpu.X86.HasAVX2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL

// absorb XORs blocks × Rate bytes from each of in into the states, and permutes them after each block. Nothing else is read.
//
//go:noescape
func absorb(words *[25 * Lanes]uint64, in *[Lanes]*byte, blocks int)
