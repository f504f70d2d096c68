package node

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/seigr/sttnode/stc"
)

func TestBeaconIsHeardOnce(t *testing.T) {
	kr := testKeyring(t, "test")
	at := func(name, network string) *lanHearing {
		return newLANHearing(testIdentity(t, name).PublicKey(), testKeyring(t, network))
	}
	a, b, stranger := at("a", "test"), at("b", "test"), at("s", "another")
	now := time.Unix(1_700_000_000, 0)
	from := netip.MustParseAddr("192.0.2.7")
	first := b.seal(now, 4700)
	if len(first) != beaconSize+stc.BeaconOverhead || bytes.Contains(first, b.self[:]) {
		t.Errorf("%x", first)
	}
	h := a.hear(now, first, from)
	if !h.dial || !h.answer || h.peer != b.self.NodeID() || h.addr != netip.AddrPortFrom(from, 4700) {
		t.Errorf("the first beacon: %+v", h)
	}
	ignored := func(what string, now time.Time, datagram []byte) {
		t.Helper()
		if h := a.hear(now, datagram, from); h.dial || h.answer {
			t.Errorf("%s: %+v", what, h)
		}
	}
	ignored("again soon", now.Add(time.Second), b.seal(now.Add(time.Second), 4700))
	ignored("our own", now, a.seal(now, 4700))
	refused := a.stats.Refused
	ignored("sent again by somebody", now.Add(lanAgain), first)
	late := now.Add(time.Hour)
	ignored("sent again later", late, first)
	ignored("from the future", late, b.seal(late.Add(beaconAge+time.Second), 4700))
	ignored("of another network", late, stranger.seal(late, 4700))
	ignored("of another length", late, append(b.seal(late, 4700), 0))
	ignored("nothing", late, nil)
	other := stc.NewBeaconSealer(kr).Seal(nil, bytes.Repeat([]byte{2}, beaconSize), []byte(beaconAD))
	ignored("of another version", late, other)
	if n := a.stats.Refused - refused; n != 7 || a.stats.Heard != 2 {
		t.Errorf("%d refused: %+v", n, a.stats)
	}
	if h := a.hear(late, b.seal(late, 4700), from); !h.dial {
		t.Error("a node that is heard again much later is not dialled")
	}
	if h := a.hear(late, at("c", "test").seal(late, 0), from); h.dial || h.answer {
		t.Errorf("a node that takes no sessions, right behind another: %+v", h)
	}
	if h := a.hear(late.Add(answerInterval), at("d", "test").seal(late, 0), from); h.dial || !h.answer {
		t.Errorf("a node that takes no sessions: %+v", h)
	}
}

// However much comes, little is looked at, and less remembered.
func TestBeaconFlood(t *testing.T) {
	a := newLANHearing(testIdentity(t, "a").PublicKey(), testKeyring(t, "test"))
	now := time.Unix(1_700_000_000, 0)
	from := netip.MustParseAddr("192.0.2.7")
	for range 10_000 {
		a.hear(now, make([]byte, beaconSize+stc.BeaconOverhead), from)
	}
	b := newLANHearing(testIdentity(t, "b").PublicKey(), testKeyring(t, "test"))
	if h := a.hear(now, b.seal(now, 1), from); h.dial {
		t.Error("the flood is looked at")
	}
	dials, answers := 0, 0
	var keys [20]stc.PublicKey
	for i := range keys {
		keys[i] = testIdentity(t, "n"+string(rune('a'+i))).PublicKey()
	}
	for i := range 3 * maxBeaconNonces {
		now = now.Add(time.Second / beaconRate)
		b.self = keys[i%20]
		h := a.hear(now, b.seal(now, 1), from)
		if h.dial {
			dials++
		}
		if h.answer {
			answers++
		}
	}
	if elapsed := 3 * maxBeaconNonces / beaconRate; dials < 20 || dials > 20*(elapsed/60+1) || answers > elapsed {
		t.Errorf("%d dials and %d answers in %d s", dials, answers, elapsed)
	}
	if a.nonces.Len() > maxBeaconNonces || a.peers.Len() > maxLANPeers {
		t.Errorf("%d nonces and %d peers are remembered", a.nonces.Len(), a.peers.Len())
	}
}

func FuzzParseBeacon(f *testing.F) {
	key := testIdentity(f, "a").PublicKey()
	f.Add(beacon{time.UnixMilli(5), key, 4700}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseBeacon(b)
		if err == nil && !bytes.Equal(got.append(nil)[:43], b[:43]) {
			t.Fatalf("%x: %+v", b, got)
		}
	})
}
