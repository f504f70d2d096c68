//go:build !purego

package gcm

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// wide and narrow say whether processor and operating system have all that the assembly with vectors of 64 and of 32 bytes
// uses; supported, whether there is a kernel.
var (
	wide = cpu.X86.HasAES && cpu.X86.HasAVX2 && cpu.X86.HasBMI2 &&
		cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ &&
		cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ
	narrow    = cpu.X86.HasAES && cpu.X86.HasAVX2 && cpu.X86.HasPCLMULQDQ && leaf7()&vectorAES == vectorAES
	supported = wide || narrow
)

// vectorAES is VAES and VPCLMULQDQ in what leaf7 returns; package cpu knows them only beside AVX-512.
const vectorAES = 1<<9 | 1<<10

// leaf7 returns ECX of CPUID's leaf 7. A processor with AVX2 has it.
func leaf7() (ecx uint32)

const (
	// maxText is SP 800-38D's limit of a message, 2³⁹−256 bits: the 32-bit block counter must not repeat.
	maxText = (1<<32 - 2) * 16

	// maxCall bounds the work of one call of crypt, some 10 µs: assembly can't be preempted, and a garbage collection would
	// wait for it. A multiple of 256, which crypt asks of all calls but a message's last.
	maxCall = 64 << 10
)

var errOpen = errors.New("gcm: message authentication failed")

// kernel is a cipher.AEAD, immutable until wiped. The assembly counts on the order of its first two fields, and is a little
// faster when powers[1] begins a cache line, as it does in the allocator's size class of 576 bytes.
type kernel struct {
	roundKeys [15][16]byte
	// powers holds H¹⁷, H¹⁶, … H¹, each times x and byte-reversed, then zeros: the last powers are read four at a time.
	powers [20][2]uint64
	wide   bool
	live   bool
}

// state is what a message carries from one call of crypt to the next.
type state struct {
	//lint:ignore U1000 only the assembly uses it
	hash    [2]uint64 // GHASH so far, byte-reversed
	counter [2]uint64 // the next counter block, byte-reversed: the block counter is the lowest 32 bits
	bits    [2]uint64 // GHASH's last block, byte-reversed: lengths of text and additional data in bits
	tag     [16]byte  // after the last call
	// For crypt256: the bytes behind the last whole vector, zeros behind them.
	ad, text [32]byte
}

// expand fills in roundKeys and powers.
//
//go:noescape
func expand(k *kernel, key *[keySize]byte)

// crypt authenticates ad, then encrypts or decrypts n bytes from src to dst and authenticates the ciphertext, and with last
// set leaves the tag in s. src and dst may be the same. Without last, n must be a multiple of 256 bytes; adLen must be one of 16
// unless it is the end of the additional data. Nothing is read or written outside.
//
//go:noescape
func crypt(k *kernel, s *state, dst, src *byte, n int, ad *byte, adLen int, encrypt, last bool)

// expand256 and crypt256 do the same with vectors of 32 bytes. The bytes that are not a whole vector are taken from s, and
// those of the text are put there.
//
//go:noescape
func expand256(k *kernel, key *[keySize]byte)

//go:noescape
func crypt256(k *kernel, s *state, dst, src *byte, n int, ad *byte, adLen int, encrypt, last bool)

func newKernel(key []byte) cipher.AEAD { return newKernelOf(key, wide) }

func newKernelOf(key []byte, wide bool) *kernel {
	k := &kernel{wide: wide, live: true}
	if wide {
		expand(k, (*[keySize]byte)(key))
	} else {
		expand256(k, (*[keySize]byte)(key))
	}
	return k
}

func (k *kernel) wipe() {
	k.wide, k.live = false, false
	clear(k.roundKeys[:])
	clear(k.powers[:])
}

func (k *kernel) NonceSize() int { return nonceSize }

func (k *kernel) Overhead() int { return tagSize }

func (k *kernel) Seal(dst, nonce, plaintext, ad []byte) []byte {
	n := len(plaintext)
	s := k.begin(nonce, n, len(ad))
	if uint64(n) > maxText {
		panic("gcm: message too large")
	}
	whole, out := extend(dst, n+tagSize)
	checkOverlap(out, plaintext, ad)
	k.crypt(&s, out, plaintext, ad, true)
	*(*[tagSize]byte)(out[n:]) = s.tag
	return whole
}

func (k *kernel) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	n := len(ciphertext) - tagSize
	s := k.begin(nonce, n, len(ad))
	if n < 0 || uint64(n) > maxText {
		return nil, errOpen
	}
	whole, out := extend(dst, n)
	checkOverlap(out, ciphertext, ad)
	k.crypt(&s, out, ciphertext[:n], ad, false)
	if subtle.ConstantTimeCompare(s.tag[:], ciphertext[n:]) != 1 {
		clear(out) // nobody must see what has not been authenticated
		return nil, errOpen
	}
	return whole, nil
}

// begin returns the state before a message of n bytes.
func (k *kernel) begin(nonce []byte, n, adLen int) (s state) {
	if len(nonce) != nonceSize {
		panic("gcm: incorrect nonce length")
	}
	if !k.live {
		panic("gcm: key used after it was wiped")
	}
	s.counter[0] = uint64(binary.BigEndian.Uint32(nonce[8:]))<<32 | 2 // 1 is the tag's
	s.counter[1] = uint64(binary.BigEndian.Uint32(nonce))<<32 | uint64(binary.BigEndian.Uint32(nonce[4:]))
	s.bits[0], s.bits[1] = uint64(n)*8, uint64(adLen)*8
	return s
}

// crypt puts src through the assembly, and leaves the tag in s.
func (k *kernel) crypt(s *state, dst, src, ad []byte, encrypt bool) {
	if !k.wide {
		k.crypt256(s, dst, src, ad, encrypt)
		return
	}
	for len(ad) > maxCall {
		crypt(k, s, nil, nil, 0, unsafe.SliceData(ad), maxCall, encrypt, false)
		ad = ad[maxCall:]
	}
	for len(src) > maxCall {
		crypt(k, s, unsafe.SliceData(dst), unsafe.SliceData(src), maxCall, unsafe.SliceData(ad), len(ad), encrypt, false)
		dst, src, ad = dst[maxCall:], src[maxCall:], nil
	}
	crypt(k, s, unsafe.SliceData(dst), unsafe.SliceData(src), len(src), unsafe.SliceData(ad), len(ad), encrypt, true)
}

// crypt256 is crypt with vectors of 32 bytes. What is not one's whole is in s on the way in, and the text also on the way out.
func (k *kernel) crypt256(s *state, dst, src, ad []byte, encrypt bool) {
	for len(ad) > maxCall {
		crypt256(k, s, nil, nil, 0, unsafe.SliceData(ad), maxCall, encrypt, false)
		ad = ad[maxCall:]
	}
	copy(s.ad[:], ad[len(ad)&^31:])
	for len(src) > maxCall {
		crypt256(k, s, unsafe.SliceData(dst), unsafe.SliceData(src), maxCall, unsafe.SliceData(ad), len(ad), encrypt, false)
		dst, src, ad = dst[maxCall:], src[maxCall:], nil
	}
	whole := len(src) &^ 31
	copy(s.text[:], src[whole:])
	crypt256(k, s, unsafe.SliceData(dst), unsafe.SliceData(src), len(src), unsafe.SliceData(ad), len(ad), encrypt, true)
	copy(dst[whole:len(src)], s.text[:])
}

// extend returns dst with n more bytes, and those bytes.
func extend(dst []byte, n int) (whole, more []byte) {
	whole = slices.Grow(dst, n)[:len(dst)+n]
	return whole, whole[len(dst):]
}

// checkOverlap panics as crypto/cipher's AEADs do: out may be where in is, but not overlap it otherwise, nor ad at all.
func checkOverlap(out, in, ad []byte) {
	if unsafe.SliceData(out) != unsafe.SliceData(in) && overlap(out, in) {
		panic("gcm: invalid buffer overlap of output and input")
	}
	if overlap(out, ad) {
		panic("gcm: invalid buffer overlap of output and additional data")
	}
}

func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	firstA, firstB := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return firstA < firstB+uintptr(len(b)) && firstB < firstA+uintptr(len(a))
}
