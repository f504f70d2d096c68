package stc

import (
	"bytes"
	"errors"
	"testing"
)

func TestBeacon(t *testing.T) {
	kr, other := testKeyring(t, 1), testKeyring(t, 2)
	s := NewBeaconSealer(kr)
	message, ad := []byte("who is there"), []byte("ad")
	sealed := s.Seal([]byte("x"), message, ad)[1:]
	if len(sealed) != len(message)+BeaconOverhead || bytes.Contains(sealed, message) {
		t.Fatalf("%x", sealed)
	}
	if got, err := NewBeaconSealer(kr).Open(nil, sealed, ad); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	if again := s.Seal(nil, message, ad); bytes.Equal(again, sealed) {
		t.Error("two beacons are the same")
	}
	if _, err := NewBeaconSealer(other).Open(nil, sealed, ad); !errors.Is(err, ErrForged) {
		t.Errorf("in another network: %v", err)
	}
	if _, err := s.Open(nil, sealed, nil); !errors.Is(err, ErrForged) {
		t.Errorf("with other ad: %v", err)
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		for _, bad := range [][]byte{b, sealed[:i]} {
			if _, err := s.Open(nil, bad, ad); !errors.Is(err, ErrForged) {
				t.Fatalf("changed at %d: %v", i, err)
			}
		}
	}
}
