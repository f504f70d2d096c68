package vectors

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/cryptotest"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seigr/sttnode/stc"
)

// seedStream is the random source's seed under which an encoder draws the stream ID.
const seedStream = 4

// segment makes a segment of section 12.
func segment(key, id []byte, suite, flags byte, number, size uint64, p []byte) []byte {
	k := expand(key, 32, "stt v1 stream segment key", []byte{suite}, id)
	aead := must(chacha20poly1305.New(k))
	if suite == 1 {
		aead = must(cipher.NewGCM(must(aes.NewCipher(k))))
	}
	h := cat([]byte{1, suite, flags, 0}, be32(uint32(len(p))), binary.BigEndian.AppendUint64(nil, number), binary.BigEndian.AppendUint64(nil, size), id)
	nonce := binary.BigEndian.AppendUint64([]byte{flags & 1, 0, 0, 0}, number)
	return aead.Seal(h, nonce, p, h)
}

// streamVectors adds a bounded and a live stream of two segments each, and lets package stc make and open the same.
func streamVectors(t *testing.T, s *section, shared []byte) {
	t.Helper()
	secret := expand(extract("stt v1 shared seed", shared), 32, "stt v1 stream secret")
	key := expand(secret, 32, "stt v1 stream key: camera 1")
	id := drawn(t, seedStream, 16)
	s.add("stream secret", secret)
	s.add("key of the label camera 1", key)
	s.add("stream ID", id)
	if got := keyring(t, shared).StreamKey("camera 1"); !bytes.Equal(got[:], key) {
		t.Errorf("stream key is %x", got)
	}
	text := []byte("hello, world")
	for suite := byte(1); suite <= 2; suite++ {
		live := [][]byte{segment(key, id, suite, 0, 0, 0, text[:8]), segment(key, id, suite, 1, 1, 12, text[8:])}
		bounded := [][]byte{segment(key, id, suite, 2, 0, 12, text[:8]), segment(key, id, suite, 3, 1, 12, text[8:])}
		cfg := stc.StreamConfig{Suite: stc.Suite(suite), SegmentSize: stc.StreamOverhead + 8}
		checkStream(t, [32]byte(key), cfg, text, live)
		cfg.Mode, cfg.Size = stc.StreamBounded, 12
		checkStream(t, [32]byte(key), cfg, text, bounded)
		for i, name := range []string{"segment 0", "segment 1, last"} {
			s.add(fmt.Sprintf("suite %d, live, %s", suite, name), live[i])
			s.add(fmt.Sprintf("suite %d, bounded, %s", suite, name), bounded[i])
		}
	}
}

func checkStream(t *testing.T, key [32]byte, cfg stc.StreamConfig, text []byte, want [][]byte) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seedStream)
	e, err := stc.NewStreamEncoder(key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := stc.NewStreamDecoder(key, stc.StreamDecoderConfig{Stream: e.ID()})
	if err != nil {
		t.Fatal(err)
	}
	for i, from := range []int{0, 8} {
		if _, err := e.Fill(time.Time{}, text[from:min(from+8, len(text))]); err != nil {
			t.Fatal(err)
		}
		seal := e.Seal
		if i == 1 {
			seal = e.End
		}
		if got, err := seal(nil); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("%v: segment %d is %x, %v, want %x", cfg, i, got, err, want[i])
		}
		if err := d.Receive(want[i]); err != nil {
			t.Errorf("%v: segment %d does not open: %v", cfg, i, err)
		}
	}
	if err := d.Finish(); err != nil {
		t.Error(err)
	}
}
