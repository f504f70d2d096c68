//go:build !purego

package gcm

import "testing"

func TestWipe(t *testing.T) {
	if !supported {
		t.Skip("no VAES and VPCLMULQDQ here")
	}
	aead, standard := pair(t, make([]byte, keySize))
	k, ok := aead.(*kernel)
	if !ok {
		t.Fatalf("New returns %T", aead)
	}
	nonce := make([]byte, nonceSize)
	sealed := aead.Seal(nil, nonce, []byte("text"), nil)
	Wipe(aead)
	if *k != (kernel{}) {
		t.Error("something of the key is left")
	}
	if !panics(func() { aead.Seal(nil, nonce, []byte("text"), nil) }) {
		t.Error("seals with a wiped key")
	}
	if !panics(func() { aead.Open(nil, nonce, sealed, nil) }) {
		t.Error("opens with a wiped key")
	}
	Wipe(standard)
	if _, err := standard.Open(nil, nonce, sealed, nil); err != nil {
		t.Errorf("the standard library's AEAD after Wipe: %v", err)
	}
}

// Where New returns the kernel with the wide vectors, the other one is tested here.
func TestNarrow(t *testing.T) {
	if !wide || !narrow {
		t.Skip("there is one kernel at most, which the other tests are about")
	}
	src := newSource(3)
	for n := range 2201 {
		key := src.bytes(keySize)
		standard, err := newStandard(key)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, src, newKernelOf(key, false), standard, n, src.IntN(301))
	}
	key := src.bytes(keySize)
	standard, err := newStandard(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{64<<10 - 1, 64 << 10, 64<<10 + 1, 3<<20 + 77} {
		compare(t, src, newKernelOf(key, false), standard, n, 64<<10+src.IntN(200))
	}
}

func TestDoesNotAllocate(t *testing.T) {
	if !supported {
		t.Skip("no VAES and VPCLMULQDQ here")
	}
	k := newKernel(make([]byte, keySize))
	nonce, buf := make([]byte, nonceSize), make([]byte, 100_000+tagSize)
	if n := testing.AllocsPerRun(20, func() {
		sealed := k.Seal(buf[:0], nonce, buf[:100_000], nonce)
		if _, err := k.Open(buf[:0], nonce, sealed, nonce); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
