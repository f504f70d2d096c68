package stc

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
	"fmt"
)

// MaxLabelSize is the most bytes in the label of a name.
const MaxLabelSize = 63

// Name is what people pass round in place of a content's hash where the content may change: it names a key, whose owner signs
// what the name stands for. A Name is SHA3-256("stt name v1" ‖ public key), and the DHT key of the owner's signed record. The
// zero Name is nobody's.
type Name Hash

// NameKey signs for one name. It is immutable and safe for concurrent use. Printing one shows its name only.
type NameKey struct {
	public PublicKey
	secret *nameSecret // behind a pointer, as Identity.secret
}

type nameSecret struct{ signing ed25519.PrivateKey }

// NameKey derives the key of the name that the node calls label: the same node seed and label always give the same name, and
// names of one node have nothing in common that others could see. ErrBadLabel unless CheckLabel takes the label.
func (id *Identity) NameKey(label string) (*NameKey, error) {
	if err := CheckLabel(label); err != nil {
		return nil, err
	}
	signing := deriveSigning(id.secret.prk[:], infoNameKey, label)
	return &NameKey{public: PublicKey(signing.Public().(ed25519.PublicKey)), secret: &nameSecret{signing}}, nil
}

// CheckLabel returns ErrBadLabel unless label is 1 to MaxLabelSize characters a-z, 0-9, '-', '_' and '.', of which the first is a
// letter or digit: what a file may be called everywhere.
func CheckLabel(label string) error {
	if len(label) == 0 || len(label) > MaxLabelSize {
		return fmt.Errorf("%w: %d characters instead of 1 to %d", ErrBadLabel, len(label), MaxLabelSize)
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return fmt.Errorf("%w: %q; it may have a-z, 0-9 and, behind the first, - _ . too", ErrBadLabel, label)
		}
	}
	return nil
}

// PublicKey returns the key that others check signatures with.
func (k *NameKey) PublicKey() PublicKey { return k.public }

// Name returns PublicKey().Name().
func (k *NameKey) Name() Name { return k.public.Name() }

// Sign returns the Ed25519 signature of msg, as Identity.Sign does.
func (k *NameKey) Sign(msg []byte) []byte { return ed25519.Sign(k.secret.signing, msg) }

// Name returns the name that the owner of the key signs for.
func (k PublicKey) Name() Name {
	return Name(Sum(append([]byte(domainName), k[:]...)))
}

// The text of a name is namePrefix and 56 characters: base32 (RFC 4648 section 6, in lower case) of the name's 32 bytes and a
// check of 3, so that a wrong character is noticed and not looked for in the network.
const (
	namePrefix    = "sttn"
	nameCheckSize = 3
)

var nameEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// check returns what the text of a name ends in.
func (n Name) check() []byte {
	sum := Sum(append([]byte(domainNameCheck), n[:]...))
	return sum[:nameCheckSize]
}

// String returns the text that ParseName reads.
func (n Name) String() string {
	return namePrefix + nameEncoding.EncodeToString(append(n[:len(n):len(n)], n.check()...))
}

// IsZero reports whether n is the zero Name.
func (n Name) IsZero() bool { return n == Name{} }

// ParseName reads the text of a name, which is never that of a Hash or of a ticket. One name has one text; everything else is ErrBadName.
func ParseName(s string) (Name, error) {
	const size = len(namePrefix) + (HashSize+nameCheckSize)*8/5
	if len(s) != size || s[:len(namePrefix)] != namePrefix {
		return Name{}, fmt.Errorf("%w: a name is %d characters and begins with %s", ErrBadName, size, namePrefix)
	}
	b, err := nameEncoding.DecodeString(s[len(namePrefix):])
	if err != nil || len(b) != HashSize+nameCheckSize { // the decoder skips line breaks
		return Name{}, fmt.Errorf("%w: it has characters other than a-z and 2-7", ErrBadName)
	}
	n := Name(b[:HashSize])
	if !bytes.Equal(b[HashSize:], n.check()) {
		return Name{}, fmt.Errorf("%w: a character is wrong", ErrBadName)
	}
	return n, nil
}

// deriveSigning derives an Ed25519 key whose public key has sign bit 0. Half of all keys do; the counter behind info goes on
// until one does.
func deriveSigning(prk []byte, info, suffix string) ed25519.PrivateKey {
	var counter [4]byte
	for n := uint32(0); ; n++ {
		binary.BigEndian.PutUint32(counter[:], n)
		seed := expandKey(prk, info+string(counter[:])+suffix)
		key := ed25519.NewKeyFromSeed(seed[:])
		clear(seed[:])
		if key[ed25519.SeedSize+31]&0x80 == 0 {
			return key
		}
	}
}
