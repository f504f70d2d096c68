//go:build amd64 && !purego

package stc

// The assembly of golang.org/x/crypto's ChaCha20-Poly1305 doesn't allocate, its portable code does.
const chachaAllocates = false
