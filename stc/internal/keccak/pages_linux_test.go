package keccak

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing behind a block is read, not even to be ignored: each one here ends with its page, and the next page is forbidden.
func TestPageEnds(t *testing.T) {
	page := os.Getpagesize()
	var in [Lanes][]byte
	for lane := range in {
		b, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(b) })
		if err := unix.Mprotect(b[page:], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		in[lane] = b[page-3*Rate : page]
	}
	for _, s := range states() {
		s.Absorb(&in, 3)
	}
}
