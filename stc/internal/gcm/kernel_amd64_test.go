//go:build !purego

package gcm

import "testing"

func TestWipe(t *testing.T) {
	if !supported {
		t.Skip("no AVX-512, VAES and VPCLMULQDQ here")
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

func TestDoesNotAllocate(t *testing.T) {
	if !supported {
		t.Skip("no AVX-512, VAES and VPCLMULQDQ here")
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
