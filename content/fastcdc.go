package content

import (
	"crypto/sha3"
	"encoding/binary"
)

// gear cuts files where their bytes say so: FastCDC (Xia et al., USENIX ATC 2016) as its authors revised it (IEEE TPDS 31-9,
// 2020), with two bytes a step and normalised chunking of level 2. What is inserted into a file, or taken out of it, changes the
// chunks around it and none beyond.
//
// The hash rolls over 64 bytes: shifted left by one for each byte, plus the byte's number from a table. A border lies before the
// byte at which certain bits of it are 0. The table comes from a key, so the borders, and with them the lengths of chunks, tell
// nothing about a file to those without it; who learns the lengths of many chunks of files that they know may still work the
// table out (Truong et al., "Breaking and Fixing Content-Defined Chunking", 2025). Immutable, safe for concurrent use.
type gear struct {
	table, shifted [256]uint64 // shifted is table << 1: the first byte of a step of two
	chunking
	hard, easy uint64 // masks before and behind the average
}

const (
	gearDomain = "stt v1 gear table"

	// gearTop is the highest bit that decides on a border. It depends on all of the 63 bytes before; the one above is lost in
	// the first byte of a step.
	gearTop = 62
	// gearLevel is the level of normalisation: how many bits more are tested before the average size, and fewer behind it.
	gearLevel = 2
)

// newGear returns the cutter with borders of a key. The chunking is content-defined.
func newGear(key [32]byte, c chunking) *gear {
	g := &gear{chunking: c}
	xof := sha3.NewSHAKE256()
	xof.Write([]byte(gearDomain))
	xof.Write(key[:])
	var word [8]byte
	for i := range g.table {
		xof.Read(word[:])
		g.table[i] = binary.BigEndian.Uint64(word[:])
		g.shifted[i] = g.table[i] << 1
	}
	mask := func(bits uint8) uint64 { return (1<<bits - 1) << (gearTop + 1 - bits) }
	g.hard, g.easy = mask(c.chunkLog+gearLevel), mask(c.chunkLog-gearLevel)
	return g
}

// cut returns the length of the first chunk of b, which begins where a chunk does, is not empty, and holds all of the largest
// chunk unless the file ends with it.
func (g *gear) cut(b []byte) int {
	b = b[:min(len(b), g.longest())]
	at := g.shortest()
	if len(b) <= at {
		return len(b)
	}
	at, hash, found := g.scan(b[:min(len(b), 1<<g.chunkLog)], at, 0, g.hard)
	if !found && at < len(b) {
		at, _, found = g.scan(b, at, hash, g.easy)
	}
	if !found {
		return len(b)
	}
	return at
}

// scan rolls the hash over b[at:] up to a border.
func (g *gear) scan(b []byte, at int, hash, mask uint64) (int, uint64, bool) {
	for ; at+1 < len(b); at += 2 {
		hash = hash<<2 + g.shifted[b[at]]
		if hash&(mask<<1) == 0 {
			return at, hash, true
		}
		hash += g.table[b[at+1]]
		if hash&mask == 0 {
			return at + 1, hash, true
		}
	}
	if at < len(b) { // only at the end of the file
		hash = hash<<1 + g.table[b[at]]
		if hash&mask == 0 {
			return at, hash, true
		}
		at++
	}
	return at, hash, false
}
