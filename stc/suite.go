package stc

import (
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"

	"github.com/seigr/sttnode/stc/internal/gcm"
)

// Suite is the number, on the wire, of an AEAD that seals packets. The zero Suite is none.
type Suite uint8

const (
	SuiteAES256GCM        Suite = 1 // AES-256-GCM, NIST SP 800-38D
	SuiteChaCha20Poly1305 Suite = 2 // ChaCha20-Poly1305, RFC 8439
)

// TagSize is how much longer a sealed packet is than its plaintext, in bytes, in every suite.
const TagSize = 16

// String returns the usual name of the suite.
func (s Suite) String() string {
	switch s {
	case SuiteAES256GCM:
		return "AES-256-GCM"
	case SuiteChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

// HasAESHardware reports whether this CPU has instructions for AES and for GCM's multiplication that crypto/aes uses.
func HasAESHardware() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3 ||
		cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH
}

// SupportedSuites returns what this node is willing to use, the preferred one first. AES-256-GCM is offered only with AES
// hardware: without it, it is slow, and Go's table-driven AES does not run in constant time. So the first suite of one side
// that the other side supports too is AES-256-GCM exactly when both have the hardware. The caller owns the slice.
func SupportedSuites() []Suite {
	if HasAESHardware() {
		return []Suite{SuiteAES256GCM, SuiteChaCha20Poly1305}
	}
	return []Suite{SuiteChaCha20Poly1305}
}

// newAEAD returns the suite's AEAD with a 12-byte nonce.
func (s Suite) newAEAD(key []byte) (cipher.AEAD, error) {
	switch s {
	case SuiteAES256GCM:
		return gcm.New(key)
	case SuiteChaCha20Poly1305:
		return chacha20poly1305.New(key)
	}
	return nil, fmt.Errorf("%w: %d", ErrUnknownSuite, uint8(s))
}
