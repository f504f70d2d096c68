package gcm

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing behind a buffer is touched, not even to be ignored: each one here ends with its page, and the next page is forbidden.
func TestPageEnds(t *testing.T) {
	page := os.Getpagesize()
	forbidNext := func() []byte {
		b, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(b) })
		if err := unix.Mprotect(b[page:], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		return b[:page:page]
	}
	plainPage, sealedPage, adPage, noncePage := forbidNext(), forbidNext(), forbidNext(), forbidNext()
	src := newSource(4)
	aead, standard := pair(t, src.bytes(keySize))
	for n := range 600 {
		plain, sealed := plainPage[page-n:], sealedPage[page-n-tagSize:]
		ad, nonce := adPage[page-n%300:], noncePage[page-nonceSize:]
		for _, b := range [][]byte{plain, ad, nonce} {
			copy(b, src.bytes(len(b)))
		}
		want := standard.Seal(nil, nonce, plain, ad)
		if got := aead.Seal(sealed[:0], nonce, plain, ad); !bytes.Equal(got, want) {
			t.Fatalf("sealing %d bytes differs", n)
		}
		if _, err := aead.Open(plain[:0], nonce, sealed, ad); err != nil {
			t.Fatalf("opening %d bytes: %v", n, err)
		}
	}
}
