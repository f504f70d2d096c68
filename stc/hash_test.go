package stc

import (
	"bytes"
	"crypto/sha3"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

// SHA3-256 of NIST's example messages and of the CAVP short messages (csrc.nist.gov, SHA3VS).
var nistSHA3 = []struct {
	name   string
	msg    []byte
	digest string
}{
	{"0 bits", nil, "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"},
	{"8 bits", []byte{0xe9}, "f0d04dd1e6cfc29a4460d521796852f25d9ef8d28b44ee91ff5b759d72c1e6d6"},
	{"24 bits", []byte("abc"), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
	{"448 bits", []byte("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
		"41c0dba2a9d6240849100376a8235e2c82e1b9998a999e21db32dd97496d3376"},
	{"896 bits", []byte("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
		"916f6061fe879741ca6469b43971dfdb28b1a32dc36cb3254e812be27aad1d18"},
	{"1600 bits", bytes.Repeat([]byte{0xa3}, 200), "79f38adec5c20307a98ef76e8324afbfd46cfd81b22e3973c65fa1bd9de31787"},
	{"1,000,000 a", bytes.Repeat([]byte{'a'}, 1_000_000), "5c8875ae474a3634ba4fd55ec85bffd661f32aca75c6d699d0cdcb6c115891c1"},
}

func TestHashNIST(t *testing.T) {
	data := make([][]byte, len(nistSHA3))
	for i, v := range nistSHA3 {
		data[i] = v.msg
		if got := Sum(v.msg).String(); got != v.digest {
			t.Errorf("Sum of %s = %s, want %s", v.name, got, v.digest)
		}
		h := NewHash()
		h.Write(v.msg[:len(v.msg)/3])
		h.Write(v.msg[len(v.msg)/3:])
		if got := Hash(h.Sum(nil)).String(); got != v.digest {
			t.Errorf("NewHash of %s = %s, want %s", v.name, got, v.digest)
		}
	}
	for name, sum := range sumManyImplementations {
		dst := make([]Hash, len(data))
		sum(dst, data)
		for i, v := range nistSHA3 {
			if dst[i].String() != v.digest {
				t.Errorf("%s of %s = %v, want %s", name, v.name, dst[i], v.digest)
			}
		}
	}
}

// All ways are tested on every machine: without AVX2 the interleaved ones permute one lane after the other.
var sumManyImplementations = map[string]func([]Hash, [][]byte){
	"SumMany":        SumMany,
	"sumInterleaved": sumInterleaved,
	"sumEach":        sumEach,
	"Sum": func(dst []Hash, data [][]byte) {
		for i, d := range data {
			dst[i] = Sum(d)
		}
	},
	"sumAlone": func(dst []Hash, data [][]byte) {
		for i, d := range data {
			dst[i] = sumAlone(d)
		}
	},
}

func TestSumsEqualStandard(t *testing.T) {
	r := testRand(t)
	pool := randomBytes(r, 1<<20)
	edges := []int{0, 1, 7, 8, 135, 136, 137, 271, 272, 273, 407, 408, 409, 1 << 20}

	var batches [][][]byte
	for n := range 10 { // equal lengths, every batch size around the number of lanes
		for _, size := range []int{0, 135, 136, 137, 5000} {
			batch := make([][]byte, n)
			for i := range batch {
				batch[i] = pool[i : i+size]
			}
			batches = append(batches, batch)
		}
	}
	var all [][]byte
	for _, size := range edges {
		all = append(all, pool[:size])
	}
	batches = append(batches, all, slices.Concat(all, all, all))
	for range 60 { // any mix
		batch := make([][]byte, r.IntN(24))
		for i := range batch {
			size := edges[r.IntN(len(edges)-1)]
			if r.IntN(2) == 0 {
				size = r.IntN(3000)
			}
			start := r.IntN(len(pool) - size)
			batch[i] = pool[start : start+size]
		}
		batches = append(batches, batch)
	}

	for name, sum := range sumManyImplementations {
		for n, batch := range batches {
			got := make([]Hash, len(batch))
			for i := range got {
				got[i][0] = 0xff
			}
			sum(got, batch)
			for i := range batch {
				if want := Hash(sha3.Sum256(batch[i])); got[i] != want {
					t.Fatalf("%s, batch %d of %d messages: message %d of %d bytes is %v, want %v",
						name, n, len(batch), i, len(batch[i]), got[i], want)
				}
			}
		}
	}
}

func TestSumsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("race detector")
	}
	data := [][]byte{make([]byte, 100), make([]byte, 1000), make([]byte, 300), make([]byte, 5000), make([]byte, 136)}
	dst := make([]Hash, len(data))
	if n := testing.AllocsPerRun(100, func() { SumMany(dst, data); dst[0] = Sum(data[3]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSumManyPanicsOnUnequalSlices(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	SumMany(make([]Hash, 1), make([][]byte, 2))
}

func TestParseHash(t *testing.T) {
	text := "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
	h, err := ParseHash(text)
	if err != nil || h != Sum(nil) || h.String() != text {
		t.Fatalf("ParseHash = %v, %v", h, err)
	}
	for _, bad := range []string{"", text[1:], text + "0", strings.ToUpper(text), "0x" + text[2:], " " + text[1:], text[:63] + "g",
		text[:63] + "\n", text[:62] + "é"} {
		if h, err := ParseHash(bad); !errors.Is(err, ErrBadHash) || !h.IsZero() {
			t.Errorf("ParseHash(%q) = %v, %v", bad, h, err)
		}
	}
}

func TestHashText(t *testing.T) {
	type record struct{ Root Hash }
	b, err := json.Marshal(record{Sum(nil)})
	if err != nil || string(b) != `{"Root":"a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"}` {
		t.Fatalf("Marshal = %s, %v", b, err)
	}
	var back record
	if err := json.Unmarshal(b, &back); err != nil || back.Root != Sum(nil) {
		t.Fatalf("Unmarshal = %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"Root":"A7"}`), &back); !errors.Is(err, ErrBadHash) || back.Root != Sum(nil) {
		t.Errorf("Unmarshal of a bad hash = %v, %v", back, err)
	}
}

func TestHashCompare(t *testing.T) {
	low, high := Hash{0: 1}, Hash{0: 1, 31: 1}
	if low.Compare(high) != -1 || high.Compare(low) != 1 || low.Compare(low) != 0 {
		t.Error("not the order of big-endian numbers")
	}
	if !(Hash{}).IsZero() || high.IsZero() {
		t.Error("IsZero")
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("")
	f.Add(Sum(nil).String())
	f.Add(strings.ToUpper(Sum(nil).String()))
	f.Add(strings.Repeat("0", 63) + "\x00")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			if !errors.Is(err, ErrBadHash) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		if h.String() != s {
			t.Fatalf("%q is read as %v: a hash has one text", s, h)
		}
	})
}

func FuzzSumMany(f *testing.F) {
	f.Add([]byte("abc"), uint16(1), uint16(2))
	f.Add(make([]byte, 1000), uint16(136), uint16(272))
	f.Fuzz(func(t *testing.T, data []byte, a, b uint16) {
		i, j := min(int(a), len(data)), min(int(b), len(data))
		batch := [][]byte{data, data[:i], data[i:], data[:j], data[j:], data[min(i, j):max(i, j)]}
		got := make([]Hash, len(batch))
		sumInterleaved(got, batch)
		for i, d := range batch {
			if got[i] != sha3.Sum256(d) {
				t.Fatalf("message %d of %d bytes", i, len(d))
			}
		}
	})
}
