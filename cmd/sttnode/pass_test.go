package main

import (
	"errors"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// A pass is good for the node that it was made for and nobody else, and every
// bit of it counts.
func TestPass(t *testing.T) {
	identity := func() *stc.Identity {
		id, err := stc.NewIdentity(randomSeed())
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	owner, bearer, thief := identity(), identity().NodeID(), identity().NodeID()
	p := newPass(owner, bearer)
	if id, err := p.owner(bearer); err != nil || id != owner.NodeID() {
		t.Fatalf("%v, %v", id, err)
	}
	if id, err := p.owner(thief); !errors.Is(err, errPass) {
		t.Errorf("somebody else's pass: %v, %v", id, err)
	}
	for i := range p {
		forged := p
		forged[i] ^= 1 << (i % 8)
		if id, err := forged.owner(bearer); !errors.Is(err, errPass) {
			t.Errorf("byte %d changed: %v, %v", i, id, err)
		}
	}
	if id, err := new(pass).owner(bearer); !errors.Is(err, errPass) {
		t.Errorf("no pass: %v, %v", id, err)
	}
}

func TestParseDestination(t *testing.T) {
	const id = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
	for text, want := range map[string]struct{ id, addr string }{
		id:                           {id, ""},
		"192.0.2.1:4700":             {"", "192.0.2.1:4700"},
		id + "@[2001:db8::1]:4700":   {id, "[2001:db8::1]:4700"},
		id + "@ws://host:80/stt":     {id, "ws://host:80/stt"},
		"wss://" + id + "@host/stt":  {id, "wss://host/stt"},
		"wss://boot.example.org/stt": {"", "wss://boot.example.org/stt"},
	} {
		d, err := parseDestination(text)
		if err != nil || d.addr != want.addr || d.id.IsZero() != (want.id == "") || want.id != "" && d.id.String() != want.id {
			t.Errorf("%s: %+v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "bob", id[1:], id + "@", "host", "http://host/stt"} {
		var usage *usageError
		if d, err := parseDestination(text); !errors.As(err, &usage) {
			t.Errorf("%q: %+v, %v", text, d, err)
		}
	}
}
