package content

import (
	"bytes"
	"crypto/sha3"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// testCDC is the chunking by content with an average size, and small manifest nodes.
func testCDC(chunkLog uint8) chunking { return chunking{ChunkerCDC, chunkLog, 2} }

// cuts returns the sizes of the chunks of a file.
func cuts(g *gear, file []byte) (sizes []int) {
	for len(file) > 0 {
		n := g.cut(file)
		sizes = append(sizes, n)
		file = file[n:]
	}
	return sizes
}

// cutSlowly is what cut does, by the definition of the hash: the sum over the bytes since the shortest chunk, each byte's number
// shifted left by its distance.
func cutSlowly(g *gear, b []byte) int {
	b = b[:min(len(b), g.longest())]
	hash := uint64(0)
	for i := g.shortest(); i < len(b); i++ {
		hash = hash<<1 + g.table[b[i]]
		mask := g.hard
		if i >= 1<<g.chunkLog {
			mask = g.easy
		}
		if hash&mask == 0 {
			return i
		}
	}
	return len(b)
}

func TestCutAgreesWithDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	for range 300 {
		g := newGear([32]byte{byte(r.Uint32()), byte(r.Uint32())}, testCDC(uint8(10+r.IntN(4))))
		b := randomBlob(r, r.IntN(2*g.longest()))
		if r.IntN(4) == 0 {
			b = bytes.Repeat(b[:len(b)/99+1], 99) // repetitive, and often without a border
		}
		if len(b) == 0 {
			continue
		}
		if got, want := g.cut(b), cutSlowly(g, b); got != want {
			t.Fatalf("%d of %d bytes, not %d; average 2^%d", got, len(b), want, g.chunkLog)
		}
	}
}

// TestCutVectors has the borders of docs/PROTOCOL.md: another program must cut where this one does.
func TestCutVectors(t *testing.T) {
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	g := newGear(key, testCDC(18))
	if g.table[0] != 0xc0c86316030f2aea || g.table[255] != 0x37c9d73a17f8b793 {
		t.Errorf("table begins with %016x, ends with %016x", g.table[0], g.table[255])
	}
	file := make([]byte, 2_000_001)
	xof := sha3.NewSHAKE256()
	xof.Write([]byte("stt test file"))
	xof.Read(file)
	if got, want := cuts(g, file), []int{156089, 334119, 269989, 289893, 289994, 80751, 415629, 163537}; !slices.Equal(got, want) {
		t.Errorf("chunks of %v bytes, not %v", got, want)
	}
	if got, want := cuts(newGear(key, testCDC(12)), file[:32<<10]), []int{3011, 4693, 2415, 4215, 4353, 4101, 2823, 6143, 1014}; !slices.Equal(got, want) {
		t.Errorf("chunks of %v bytes, not %v", got, want)
	}
	if n := g.cut(make([]byte, 2<<20)); n != MaxBlobSize {
		t.Errorf("zeros: chunk of %d bytes", n)
	}
}

// TestCutSizes holds the average to what was asked for, and every size within its bounds.
func TestCutSizes(t *testing.T) {
	g := newGear([32]byte{7}, testCDC(12))
	file := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{1}).Read(file)
	sizes := cuts(g, file)
	average := len(file) / len(sizes)
	t.Logf("average of %d chunks: %d bytes", len(sizes), average)
	if average < 1<<12*9/10 || average > 1<<12*13/10 {
		t.Errorf("average %d bytes", average)
	}
	if low, high := slices.Min(sizes[:len(sizes)-1]), slices.Max(sizes); low < g.shortest() || high > g.longest() {
		t.Errorf("sizes from %d to %d", low, high)
	}
	other := cuts(newGear([32]byte{8}, testCDC(12)), file)
	common := 0
	ends := make(map[int]bool)
	at := 0
	for _, n := range sizes {
		at += n
		ends[at] = true
	}
	at = 0
	for _, n := range other {
		if at += n; ends[at] {
			common++
		}
	}
	if common > 10 {
		t.Errorf("two keys have %d borders of %d in common", common, len(other))
	}
}

// TestCutSurvivesEdits is what content-defined chunks are for: an edit changes the chunks around it and no others.
func TestCutSurvivesEdits(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 0))
	g := newGear([32]byte{9}, testCDC(12))
	hashes := func(file []byte) map[stc.Hash]bool {
		set := make(map[stc.Hash]bool)
		for _, n := range cuts(g, file) {
			set[stc.Sum(file[:n])] = true
			file = file[n:]
		}
		return set
	}
	file := randomBlob(r, 2<<20)
	before := hashes(file)
	for range 20 {
		at, gone := r.IntN(len(file)-10_000), r.IntN(10_000)
		edited := slices.Concat(file[:at], randomBlob(r, r.IntN(10_000)), file[at+gone:])
		fresh := 0
		for h := range hashes(edited) {
			if !before[h] {
				fresh++
			}
		}
		// What is put in may itself be ten chunks of the least size, and it takes a few to find the old borders again.
		if fresh > 16 {
			t.Errorf("%d bytes in place of %d at %d: %d of %d chunks are new", len(edited)-len(file)+gone, gone, at, fresh, len(before))
		}
	}
}

func BenchmarkCut(b *testing.B) {
	g := newGear([32]byte{1}, chunking{ChunkerCDC, 18, defaultFanOutLog})
	file := make([]byte, 64<<20)
	rand.NewChaCha8([32]byte{1}).Read(file)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		for rest := file; len(rest) > 0; {
			rest = rest[g.cut(rest):]
		}
	}
}
