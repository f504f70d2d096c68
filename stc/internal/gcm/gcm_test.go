package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The cases of the GCM specification (McGrew, Viega, appendix B) with AES-256 and a 96-bit IV.
func TestVectors(t *testing.T) {
	const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	const key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
	const plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
	const sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
	for _, v := range []struct {
		number                             int
		key, nonce, plain, ad, sealed, tag string
	}{
		{13, zeros, zeros[:24], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{14, zeros, zeros[:24], zeros[:32], "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
		{15, key, "cafebabefacedbaddecaf888", plain, "", sealed, "b094dac5d93471bdec1a502270e3cc6c"},
		{16, key, "cafebabefacedbaddecaf888", plain[:120], "feedfacedeadbeeffeedfacedeadbeefabaddad2", sealed[:120], "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		aead, standard := pair(t, unhex(t, v.key))
		for _, a := range []cipher.AEAD{aead, standard} {
			got := a.Seal(nil, unhex(t, v.nonce), unhex(t, v.plain), unhex(t, v.ad))
			if !bytes.Equal(got, unhex(t, v.sealed+v.tag)) {
				t.Errorf("case %d: %T seals to %x", v.number, a, got)
			}
			opened, err := a.Open(nil, unhex(t, v.nonce), got, unhex(t, v.ad))
			if err != nil || !bytes.Equal(opened, unhex(t, v.plain)) {
				t.Errorf("case %d: %T opens to %x, %v", v.number, a, opened, err)
			}
		}
	}
}

// Every length up to more than a packet's, wherever the buffers lie and however they are related.
func TestEveryLength(t *testing.T) {
	src := newSource(1)
	for n := range 2201 {
		aead, standard := pair(t, src.bytes(keySize))
		compare(t, src, aead, standard, n, src.IntN(101))
	}
}

// More than one call of the assembly, carries over one, two and three bytes of the block counter, and long additional data.
func TestLong(t *testing.T) {
	src := newSource(2)
	aead, standard := pair(t, src.bytes(keySize))
	for _, n := range []int{64<<10 - 1, 64 << 10, 64<<10 + 1, 64<<10 + 255, 64<<10 + 256, 128 << 10, 300_000, 1<<20 + 16*256 + 9, 3 << 20, 3<<20 + 77} {
		compare(t, src, aead, standard, n, src.IntN(101))
	}
	for _, adLen := range []int{191, 192, 193, 255, 256, 257, 383, 384, 385, 1000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000} {
		for _, n := range []int{0, 1, 500, 100_000} {
			compare(t, src, aead, standard, n, adLen)
		}
	}
}

// compare seals and opens n random bytes at random places, with and without a prefix, out of place and in place. Result and
// tag must be the standard library's, and nothing beside them may change.
func compare(t *testing.T, src source, aead, standard cipher.AEAD, n, adLen int) {
	t.Helper()
	nonce, plain, ad := src.bytes(nonceSize), src.bytes(n), src.bytes(adLen)
	sealed := standard.Seal(nil, nonce, plain, ad)
	for _, prefix := range [][]byte{nil, src.bytes(1 + src.IntN(40))} {
		for _, inPlace := range []bool{false, true} {
			at := fmt.Sprintf("%d bytes, %d of additional data, prefix of %d, in place %v", n, adLen, len(prefix), inPlace)
			// place returns a destination that begins with the prefix, the input, and the destination's surroundings.
			place := func(input []byte, room int) (dst, in, before, behind []byte) {
				buf := src.bytes(64 + len(prefix) + room + 64)
				start := src.IntN(64)
				end := start + len(prefix) + room
				dst = append(buf[start:start:end], prefix...)
				in = input
				if inPlace {
					in = buf[start+len(prefix) : start+len(prefix)+len(input)]
					copy(in, input)
				} else {
					in = append(make([]byte, src.IntN(64), 64+len(input)), input...)
					in = in[len(in)-len(input):]
				}
				return dst, in, buf[:start], buf[end:]
			}
			dst, in, before, behind := place(plain, n+tagSize)
			wantBefore, wantBehind := slices.Clone(before), slices.Clone(behind)
			got := aead.Seal(dst, nonce, in, ad)
			if !bytes.Equal(got, slices.Concat(prefix, sealed)) {
				t.Fatalf("sealing %s: differs", at)
			}
			if !bytes.Equal(before, wantBefore) || !bytes.Equal(behind, wantBehind) {
				t.Fatalf("sealing %s: wrote somewhere else", at)
			}

			dst, in, before, behind = place(sealed, n+tagSize)
			room := dst[len(dst)+n : cap(dst)]
			wantBefore, wantBehind, wantRoom := slices.Clone(before), slices.Clone(behind), slices.Clone(room)
			got, err := aead.Open(dst, nonce, in, ad)
			if err != nil || !bytes.Equal(got, slices.Concat(prefix, plain)) {
				t.Fatalf("opening %s: differs, %v", at, err)
			}
			if !bytes.Equal(before, wantBefore) || !bytes.Equal(behind, wantBehind) || !bytes.Equal(room, wantRoom) {
				t.Fatalf("opening %s: wrote somewhere else", at)
			}
		}
	}
	if got := aead.Seal(nil, nonce, plain, ad); !bytes.Equal(got, sealed) {
		t.Fatalf("sealing %d bytes into new memory differs", n)
	}
}

// Whatever is altered, nothing is returned, and nothing of the plaintext is left in dst.
func TestRefuses(t *testing.T) {
	src := newSource(3)
	for _, n := range []int{0, 1, 15, 16, 17, 64, 255, 256, 257, 1400, 70_000} {
		key, nonce, plain, ad := src.bytes(keySize), src.bytes(nonceSize), src.bytes(n), src.bytes(20)
		aead, standard := pair(t, key)
		sealed := standard.Seal(nil, nonce, plain, ad)
		refuse := func(what string, nonce, sealed, ad []byte) {
			t.Helper()
			for _, dst := range [][]byte{src.bytes(len(sealed))[:0], slices.Clone(sealed)[:0]} {
				in := sealed
				if bytes.Equal(dst[:len(sealed)], sealed) {
					in = dst[:len(sealed)]
				}
				if opened, err := aead.Open(dst, nonce, in, ad); err == nil || opened != nil {
					t.Fatalf("%d bytes, %s: Open = %x, %v", n, what, opened, err)
				}
				if text := dst[:max(0, len(sealed)-tagSize)]; !bytes.Equal(text, make([]byte, len(text))) {
					t.Fatalf("%d bytes, %s: not wiped", n, what)
				}
			}
		}
		step := 1 + len(sealed)/100
		for i := 0; i < len(sealed); i += step {
			forged := slices.Clone(sealed)
			forged[i] ^= 1 << src.IntN(8)
			refuse("altered text", nonce, forged, ad)
			refuse("cut text", nonce, sealed[:i], ad)
		}
		for i := n; i < n+tagSize; i++ {
			forged := slices.Clone(sealed)
			forged[i] ^= 1 << src.IntN(8)
			refuse("altered tag", nonce, forged, ad)
		}
		for i := range nonce {
			other := slices.Clone(nonce)
			other[i] ^= 1 << src.IntN(8)
			refuse("altered nonce", other, sealed, ad)
		}
		for i := range ad {
			other := slices.Clone(ad)
			other[i] ^= 1 << src.IntN(8)
			refuse("altered additional data", nonce, sealed, other)
		}
		refuse("additional data cut", nonce, sealed, ad[:19])
		refuse("additional data with a zero more", nonce, sealed, append(ad[:20:20], 0))
		refuse("text with a zero more", nonce, append(sealed[:n+tagSize:n+tagSize], 0), ad)
	}
}

// Both panic for the same mistakes.
func TestMisuse(t *testing.T) {
	aead, standard := pair(t, make([]byte, keySize))
	buf, nonce := make([]byte, 1000), make([]byte, nonceSize)
	for name, misuse := range map[string]func(cipher.AEAD){
		"short nonce":                 func(a cipher.AEAD) { a.Seal(nil, nonce[:11], nil, nil) },
		"long nonce":                  func(a cipher.AEAD) { a.Open(nil, make([]byte, 16), buf[:20], nil) },
		"short nonce of a short text": func(a cipher.AEAD) { a.Open(nil, nonce[:11], nil, nil) },
		"input behind the output":     func(a cipher.AEAD) { a.Seal(buf[:0], nonce, buf[1:100], nil) },
		"input before the output":     func(a cipher.AEAD) { a.Seal(buf[1:1], nonce, buf[:100], nil) },
		"input at the output's end":   func(a cipher.AEAD) { a.Seal(buf[:0], nonce, buf[115:215], nil) },
		"opening to before":           func(a cipher.AEAD) { a.Open(buf[:0], nonce, buf[1:100], nil) },
		"opening to behind":           func(a cipher.AEAD) { a.Open(buf[1:1], nonce, buf[:100], nil) },
		"data in the output":          func(a cipher.AEAD) { a.Seal(buf[:0], nonce, buf[:100], buf[115:120]) },
		"data in the opened":          func(a cipher.AEAD) { a.Open(buf[:0], nonce, buf[:100], buf[:1]) },
	} {
		for _, a := range []cipher.AEAD{aead, standard} {
			if !panics(func() { misuse(a) }) {
				t.Errorf("%s: %T does not panic", name, a)
			}
		}
	}
	for _, a := range []cipher.AEAD{aead, standard} {
		a.Seal(buf[:0], nonce, buf[:100], buf[116:]) // side by side is no overlap
		a.Seal(buf[:0], nonce, buf[116:216], buf[900:])
		if a.NonceSize() != nonceSize || a.Overhead() != tagSize {
			t.Errorf("%T: nonce of %d, overhead of %d", a, a.NonceSize(), a.Overhead())
		}
	}
	for _, n := range []int{0, 16, 24, 31, 33} {
		var size aes.KeySizeError
		if _, err := New(make([]byte, n)); !errors.As(err, &size) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func FuzzAgainstStandard(f *testing.F) {
	f.Add(make([]byte, keySize), make([]byte, nonceSize), []byte("text"), []byte("data"), uint16(0), uint32(1))
	f.Add(bytes.Repeat([]byte{0xff}, keySize), bytes.Repeat([]byte{0xff}, nonceSize), make([]byte, 1400), make([]byte, 20), uint16(3), uint32(0))
	f.Fuzz(func(t *testing.T, key, nonce, text, ad []byte, repeat uint16, flip uint32) {
		if len(key) != keySize || len(nonce) != nonceSize {
			return
		}
		text = bytes.Repeat(text, 1+int(repeat)%64)
		aead, standard := pair(t, key)
		want := standard.Seal(nil, nonce, text, ad)
		got := aead.Seal(nil, nonce, text, ad)
		if !bytes.Equal(got, want) {
			t.Fatalf("seals to %x, want %x", got, want)
		}
		if opened, err := aead.Open(got[:0], nonce, got, ad); err != nil || !bytes.Equal(opened, text) {
			t.Fatalf("opens to %x, %v", opened, err)
		}
		want[int(flip>>3)%len(want)] ^= 1 << (flip & 7)
		if _, err := aead.Open(nil, nonce, want, ad); err == nil {
			t.Fatal("opens although altered")
		}
	})
}

func BenchmarkAgainstStandard(b *testing.B) {
	aead, standard := pair(b, make([]byte, keySize))
	nonce, ad := make([]byte, nonceSize), make([]byte, 20)
	for _, size := range []int{64, 1400, 16384} {
		plain, sealed := make([]byte, size), make([]byte, 0, size+tagSize)
		for name, a := range map[string]cipher.AEAD{"this": aead, "standard": standard} {
			b.Run(fmt.Sprintf("Seal/%d/%s", size, name), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					sealed = a.Seal(sealed[:0], nonce, plain, ad)
				}
			})
			sealed = a.Seal(sealed[:0], nonce, plain, ad)
			b.Run(fmt.Sprintf("Open/%d/%s", size, name), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := a.Open(plain[:0], nonce, sealed, ad); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// source is a reproducible source of bytes and numbers.
type source struct {
	*rand.Rand
	raw *rand.ChaCha8
}

func newSource(seed byte) source {
	raw := rand.NewChaCha8([32]byte{seed})
	return source{rand.New(raw), raw}
}

func (s source) bytes(n int) []byte {
	b := make([]byte, n)
	s.raw.Read(b)
	return b
}

// pair returns what New returns, and the standard library's.
func pair(t testing.TB, key []byte) (aead, standard cipher.AEAD) {
	t.Helper()
	aead, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	standard, err = newStandard(key)
	if err != nil {
		t.Fatal(err)
	}
	return aead, standard
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
