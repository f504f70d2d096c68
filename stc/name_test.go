package stc

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha3"
	"errors"
	"strings"
	"testing"
)

// A name's key is the one that docs/PROTOCOL.md section 2 describes, computed here a second time.
func TestNameKeyDerivation(t *testing.T) {
	id := testIdentity(t, 1)
	for _, label := range []string{"film", "a", "0", strings.Repeat("x", MaxLabelSize), "news-2.eu_1"} {
		k, err := id.NameKey(label)
		if err != nil {
			t.Fatalf("%q: %v", label, err)
		}
		prk, err := hkdf.Extract(sha3.New256, seedOf(1), []byte("stt v1 node seed"))
		if err != nil {
			t.Fatal(err)
		}
		var want ed25519.PrivateKey
		for n := byte(0); want == nil || want[63]&0x80 != 0; n++ {
			seed, err := hkdf.Expand(sha3.New256, prk, "stt v1 name ed25519\x00\x00\x00"+string(n)+label, 32)
			if err != nil {
				t.Fatal(err)
			}
			want = ed25519.NewKeyFromSeed(seed)
		}
		if public := k.PublicKey(); string(public[:]) != string(want[32:]) || k.Name() != Name(Sum(append([]byte("stt name v1"), want[32:]...))) {
			t.Errorf("%q: key %v, name %v", label, public, k.Name())
		}
		msg := []byte("message")
		if sig := k.Sign(msg); !k.PublicKey().Verify(msg, sig) || k.PublicKey().Verify(msg[1:], sig) {
			t.Errorf("%q: the signature is not of the message", label)
		}
	}
}

// Names of other labels and other nodes are others; the identity's own key is nobody's name.
func TestNamesAreIndependent(t *testing.T) {
	seen := make(map[PublicKey]string)
	for n := range byte(3) {
		id := testIdentity(t, n+1)
		seen[id.PublicKey()] = "identity"
		for _, label := range []string{"film", "films", "fil", "f"} {
			k, err := id.NameKey(label)
			if err != nil {
				t.Fatal(err)
			}
			if other, known := seen[k.PublicKey()]; known {
				t.Errorf("label %s of node %d has the key of %s", label, n, other)
			}
			seen[k.PublicKey()] = label
		}
	}
}

func TestLabels(t *testing.T) {
	for _, label := range []string{"", "Film", "my film", ".hidden", "-x", "_x", "a/b", "a\\b", "a\x00", "é", strings.Repeat("x", MaxLabelSize+1), "a:b"} {
		if err := CheckLabel(label); !errors.Is(err, ErrBadLabel) {
			t.Errorf("label %q: %v", label, err)
		}
		if _, err := testIdentity(t, 1).NameKey(label); !errors.Is(err, ErrBadLabel) {
			t.Errorf("key of %q: %v", label, err)
		}
	}
}

// One name has one text, no other text is taken, and none is a hash.
func TestNameText(t *testing.T) {
	k, err := testIdentity(t, 1).NameKey("film")
	if err != nil {
		t.Fatal(err)
	}
	text := k.Name().String()
	if len(text) != 60 || !strings.HasPrefix(text, "sttn") {
		t.Errorf("text %q", text)
	}
	if got, err := ParseName(text); err != nil || got != k.Name() {
		t.Errorf("%q reads as %v, %v", text, got, err)
	}
	if _, err := ParseHash(text); err == nil {
		t.Error("a name is read as a hash")
	}
	bad := []string{"", "sttn", text[:59], text + "a", strings.ToUpper(text), " " + text[:59], Hash(k.Name()).String(),
		"sttn" + strings.Repeat("\n", 56), "sttn" + strings.Repeat("\n", 8) + text[12:], "sttn" + strings.Repeat("1", 56)}
	for i := 4; i < len(text); i++ { // every character counts
		other := byte('a')
		if text[i] == other {
			other = 'b'
		}
		bad = append(bad, text[:i]+string(other)+text[i+1:])
	}
	for _, s := range bad {
		if n, err := ParseName(s); !errors.Is(err, ErrBadName) {
			t.Errorf("%q reads as %v, %v", s, n, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("sttnaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add(Name(Sum(nil)).String())
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Errorf("%q is read and written as %q", s, n)
		}
	})
}
