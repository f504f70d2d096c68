package stc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// RFC 8439 §2.8.2, and case 16 of the GCM specification (McGrew, Viega: AES-256, 96-bit IV).
func TestSuiteVectors(t *testing.T) {
	for _, v := range []struct {
		suite                             Suite
		key, nonce, plain, ad, ciphertext string
	}{
		{
			SuiteChaCha20Poly1305,
			"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
			"070000004041424344454647",
			"4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062652069742e",
			"50515253c0c1c2c3c4c5c6c7",
			"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116" +
				"1ae10b594f09e26a7e902ecbd0600691",
		},
		{
			SuiteAES256GCM,
			"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
			"cafebabefacedbaddecaf888",
			"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
			"feedfacedeadbeeffeedfacedeadbeefabaddad2",
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" +
				"76fc6ece0f4e1768cddf8853bb2d551b",
		},
	} {
		aead, err := v.suite.newAEAD(unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		got := aead.Seal(nil, unhex(t, v.nonce), unhex(t, v.plain), unhex(t, v.ad))
		if !bytes.Equal(got, unhex(t, v.ciphertext)) {
			t.Errorf("%v seals to %x", v.suite, got)
		}
		if aead.NonceSize() != packetNonceSize || aead.Overhead() != TagSize {
			t.Errorf("%v: nonce of %d, overhead of %d", v.suite, aead.NonceSize(), aead.Overhead())
		}
	}
}

// draft-irtf-cfrg-xchacha-03 A.3.1, the cipher of sealed datagrams.
func TestXChaChaVector(t *testing.T) {
	aead, err := chacha20poly1305.NewX(unhex(t, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"))
	if err != nil {
		t.Fatal(err)
	}
	plain := "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
	got := aead.Seal(nil, unhex(t, "404142434445464748494a4b4c4d4e4f5051525354555657"), []byte(plain), unhex(t, "50515253c0c1c2c3c4c5c6c7"))
	want := unhex(t, "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e"+
		"c0875924c1c7987947deafd8780acf49")
	if !bytes.Equal(got, want) {
		t.Errorf("seals to %x", got)
	}
}

// Computed by a second implementation from the text of doc.go.
func TestPacketKeyGolden(t *testing.T) {
	var secret Secret
	for i := range secret {
		secret[i] = byte(i)
	}
	for suite, want := range map[Suite]string{
		SuiteAES256GCM:        "73c5c395c9122500c3dae658eca745425f8e94c779665753b9",
		SuiteChaCha20Poly1305: "6e2110c3ccae6a2e700511d8ed72e8c7c11f2e9c6ce9fdb61c",
	} {
		key, err := secret.PacketKey(suite, 0x01020304)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.Seal(nil, []byte("plaintext"), []byte("header"), 0x1122334455667788); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%v seals to %x, want %s", suite, got, want)
		}
	}
	secret.Ratchet()
	if want := unhex(t, "a47a755a6e9e3ca4e114bc7e3ad91641db29e714996becc0a21b54f9aede9ec8"); !bytes.Equal(secret[:], want) {
		t.Errorf("ratchet leads to %x", secret[:])
	}
}

func TestPacketKeySealOpen(t *testing.T) {
	for _, suite := range []Suite{SuiteAES256GCM, SuiteChaCha20Poly1305} {
		t.Run(suite.String(), func(t *testing.T) {
			secret := Secret{1}
			key := mustPacketKey(t, &secret, suite, 3)
			prefix, plain, ad := []byte("prefix"), []byte("the payload"), []byte("header")
			sealed := key.Seal(slices.Clone(prefix), plain, ad, 9)
			if !bytes.HasPrefix(sealed, prefix) || len(sealed) != len(prefix)+len(plain)+TagSize {
				t.Fatalf("sealed is %x", sealed)
			}
			sealed = sealed[len(prefix):]
			opened, err := key.Open(slices.Clone(prefix), sealed, ad, 9)
			if err != nil || string(opened) != "prefixthe payload" {
				t.Fatalf("Open = %q, %v", opened, err)
			}

			// In place, as cipher.AEAD allows.
			buf := append(make([]byte, 0, 100), plain...)
			buf = key.Seal(buf[:0], buf, ad, 9)
			if !bytes.Equal(buf, sealed) {
				t.Error("sealing in place differs")
			}
			if opened, err := key.Open(buf[:0], buf, ad, 9); err != nil || !bytes.Equal(opened, plain) {
				t.Errorf("opening in place = %q, %v", opened, err)
			}

			refuse := func(what string, k *PacketKey, sealed, ad []byte, seq uint64) {
				t.Helper()
				if opened, err := k.Open(nil, sealed, ad, seq); !errors.Is(err, ErrForged) || opened != nil {
					t.Errorf("%s: Open = %q, %v", what, opened, err)
				}
			}
			refuse("another sequence number", key, sealed, ad, 10)
			refuse("a far sequence number", key, sealed, ad, 9+1<<32)
			refuse("another header", key, sealed, []byte("Header"), 9)
			refuse("another epoch", mustPacketKey(t, &secret, suite, 4), sealed, ad, 9)
			refuse("nothing", key, nil, ad, 9)
			for i := range sealed {
				refuse("cut", key, sealed[:i], ad, 9)
				forged := slices.Clone(sealed)
				forged[i] ^= 0x10
				refuse("altered", key, forged, ad, 9)
			}
			other := Secret{2}
			refuse("another secret", mustPacketKey(t, &other, suite, 3), sealed, ad, 9)
			secret.Ratchet()
			refuse("the next secret", mustPacketKey(t, &secret, suite, 3), sealed, ad, 9)
		})
	}
}

// Nonces must differ for all pairs of epoch and sequence number. IV XOR (epoch ‖ seq) is injective; this holds the code to it.
func TestPacketNonce(t *testing.T) {
	secret := Secret{7}
	seqs := []uint64{0, 1, 255, 256, 1<<32 - 1, 1 << 32, 1<<63 + 5, ^uint64(0)}
	seen := map[[packetNonceSize]byte]bool{}
	key := mustPacketKey(t, &secret, SuiteAES256GCM, 0)
	for _, epoch := range []uint32{0, 1, 1 << 16, ^uint32(0)} {
		key.epoch = epoch
		for _, seq := range seqs {
			nonce := *key.nonce(seq)
			if seen[nonce] {
				t.Fatalf("epoch %d, seq %d: nonce %x again", epoch, seq, nonce)
			}
			seen[nonce] = true
			for i, b := range key.iv {
				nonce[i] ^= b
			}
			if binary.BigEndian.Uint32(nonce[:]) != epoch || binary.BigEndian.Uint64(nonce[4:]) != seq {
				t.Fatalf("epoch %d, seq %d: nonce is IV XOR %x", epoch, seq, nonce)
			}
		}
	}
}

func TestUnknownSuite(t *testing.T) {
	secret := Secret{1}
	for _, suite := range []Suite{0, 3, 255} {
		if _, err := secret.PacketKey(suite, 0); !errors.Is(err, ErrUnknownSuite) {
			t.Errorf("suite %d: %v", suite, err)
		}
	}
}

func TestSupportedSuites(t *testing.T) {
	suites := SupportedSuites()
	if !slices.Contains(suites, SuiteChaCha20Poly1305) {
		t.Error("ChaCha20-Poly1305 must always be offered")
	}
	if HasAESHardware() != (suites[0] == SuiteAES256GCM) || HasAESHardware() != slices.Contains(suites, SuiteAES256GCM) {
		t.Errorf("AES hardware %v, suites %v", HasAESHardware(), suites)
	}
	suites[0] = 99
	if SupportedSuites()[0] == 99 {
		t.Error("the caller's slice is shared")
	}
	if got := SuiteAES256GCM.String() + Suite(9).String(); got != "AES-256-GCMsuite 9" {
		t.Errorf("String = %s", got)
	}
}

func TestRatchetErases(t *testing.T) {
	secret := Secret{1, 2, 3}
	first := secret
	seen := map[Secret]bool{secret: true}
	for range 100 {
		secret.Ratchet()
		if seen[secret] {
			t.Fatal("a secret repeats")
		}
		seen[secret] = true
	}
	if bytes.Contains(secret[:], first[:8]) {
		t.Error("something of the first secret is left")
	}
	secret.Erase()
	if secret != (Secret{}) {
		t.Error("Erase leaves something")
	}
}

func TestPacketKeyErase(t *testing.T) {
	for _, suite := range []Suite{SuiteAES256GCM, SuiteChaCha20Poly1305} {
		secret := Secret{1}
		key, same := mustPacketKey(t, &secret, suite, 3), mustPacketKey(t, &secret, suite, 3)
		want := key.Seal(nil, []byte("payload"), nil, 9)
		key.Erase()
		if key.iv != [packetNonceSize]byte{} {
			t.Errorf("%v: the IV is left", suite)
		}
		if got := same.Seal(nil, []byte("payload"), nil, 9); !bytes.Equal(got, want) {
			t.Errorf("%v: erasing a key changed another", suite)
		}
	}
}

func TestPacketKeyConcurrent(t *testing.T) {
	secret := Secret{1}
	key := mustPacketKey(t, &secret, SuiteAES256GCM, 0)
	plain := make([]byte, 300)
	const n = 200
	want := make([][]byte, n)
	for i := range want {
		want[i] = key.Seal(nil, plain, nil, uint64(i))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range n {
				if got := key.Seal(nil, plain, nil, uint64(i)); !bytes.Equal(got, want[i]) {
					t.Errorf("packet %d differs", i)
				}
				if _, err := key.Open(nil, want[i], nil, uint64(i)); err != nil {
					t.Errorf("packet %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestPacketKeyDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("race detector")
	}
	for _, suite := range []Suite{SuiteAES256GCM, SuiteChaCha20Poly1305} {
		if suite == SuiteChaCha20Poly1305 && chachaAllocates {
			continue
		}
		secret := Secret{1}
		key := mustPacketKey(t, &secret, suite, 0)
		plain, ad := make([]byte, 1400), make([]byte, 20)
		sealed, opened := make([]byte, 0, 1500), make([]byte, 0, 1500)
		n := testing.AllocsPerRun(200, func() {
			sealed = key.Seal(sealed[:0], plain, ad, 1)
			if _, err := key.Open(opened, sealed, ad, 1); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v: %v allocations a packet", suite, n)
		}
	}
}

func mustPacketKey(t testing.TB, s *Secret, suite Suite, epoch uint32) *PacketKey {
	t.Helper()
	key, err := s.PacketKey(suite, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
