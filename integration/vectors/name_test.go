package vectors

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/seigr/sttnode/dht"
)

// nameVectors adds a name and two records of it, and lets the packages make and
// read the same.
func nameVectors(t *testing.T, s *section, seed []byte) {
	t.Helper()
	const label = "films"
	key := signing(seed, "stt v1 name ed25519", label)
	name := hash([]byte("stt name v1"), key.public)
	text := "sttn" + strings.ToLower(base32.StdEncoding.EncodeToString(cat(name, hash([]byte("stt name text v1"), name)[:3])))
	s.add("counter of the label films", be32(key.counter))
	s.add("Ed25519 seed", key.edSeed)
	s.add("public key", key.public)
	s.add("name", name)
	s.Values = append(s.Values, value{"text of the name, as it is", text})

	own, err := identity(t, seed).NameKey(label)
	if err != nil {
		t.Fatal(err)
	}
	if public := own.PublicKey(); !bytes.Equal(public[:], key.public) || own.Name().String() != text {
		t.Errorf("name %v of key %v", own.Name(), public)
	}
	for _, r := range []struct {
		what  string
		seq   uint64
		value []byte
	}{{"record 1, of no bytes", 1, nil}, {"record 258, of the 32 bytes 60 to 7f", 258, count(0x60)}} {
		seq := binary.BigEndian.AppendUint64(nil, r.seq)
		signature := ed25519.Sign(ed25519.NewKeyFromSeed(key.edSeed), cat([]byte("stt dht record v1"), seq, r.value))
		record := cat(key.public, seq, be16(uint16(len(r.value))), r.value, signature)
		s.add(r.what, record)

		made, err := dht.SignRecord(own, r.seq, r.value)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := made.AppendBinary(nil); !bytes.Equal(b, record) {
			t.Errorf("%s is made as %x", r.what, b)
		}
		if read, err := dht.ParseRecord(record); err != nil || read != made {
			t.Errorf("%s is read as %+v, %v", r.what, read, err)
		}
	}
}
