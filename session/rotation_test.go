package session

import (
	"slices"
	"testing"
	"time"

	"github.com/seigr/sttnode/frame"
	"github.com/seigr/sttnode/stc"
)

// TestEpochsInAnyOrder sends frames through changes of key to a session's loop, in any
// order, some of them twice or long after, some with a forged epoch, and
// compares what the loop does with each to a model: once for each frame of
// the present epoch, the next one and, for a while, the last one; never for
// anything else.
func TestEpochsInAnyOrder(t *testing.T) {
	seed := testSeed(t)
	cfg := Config{Identity: identity(t, "B"), Keyring: keyring(t, "one"), IdleTimeout: 24 * time.Hour, KeepAlive: -1}
	var late, expired, replayed, forged, changes int
	for i := range uint64(100) {
		r := newRNG(seed + i)
		l, peer := bareLoop(t, cfg, false)
		l.s.state.Store(int32(StateActive))
		rotation := []Rotation{
			{Bytes: 1 + r.Int64N(500), Messages: -1, Interval: -1},
			{Bytes: -1, Messages: 1 + r.Int64N(10), Interval: -1},
			{Bytes: -1, Messages: -1, Interval: 1 + upTo(r, time.Second)},
		}[r.IntN(3)]
		type packet struct {
			b     []byte
			seq   uint64
			epoch uint32
		}
		var waiting, sent []packet
		got := map[uint64]bool{}
		now := time.Now()
		epoch, until := uint32(0), time.Time{}
		for seq := uint64(0); seq < 300 || len(waiting) > 0; {
			if r.IntN(20) == 0 {
				now = now.Add(upTo(r, 4*l.pto()))
				l.open.expire(now)
			}
			if seq < 300 && (len(waiting) == 0 || r.IntN(2) == 0) {
				if peer.due(now, rotation) {
					if err := peer.rotate(now, seq); err != nil {
						t.Fatal(err)
					}
				}
				b := frame.AppendHeader(nil, frame.Header{Type: frame.TypeControl, Epoch: uint8(peer.epoch), Session: l.s.id, Seq: seq})
				h := len(b)
				b = peer.key.Seal(b, frame.AppendPing(nil), b[:h:h], seq)
				peer.bytes, peer.messages = peer.bytes+int64(len(b)), peer.messages+1
				p := packet{b, seq, peer.epoch}
				waiting, sent = append(waiting, p), append(sent, p)
				seq++
				continue
			}
			// The oldest first, mostly; or one that arrived long ago.
			j := min(r.IntN(1+r.IntN(20)), len(waiting)-1)
			p := waiting[j]
			again := r.IntN(5) == 0
			if again {
				p = sent[r.IntN(len(sent))]
			}
			before, secret, next := *l.open, *l.open.secret, l.open.next
			if r.IntN(5) == 0 {
				b := slices.Clone(p.b)
				b[1] ^= byte(1 + r.IntN(255))
				frames, failures := l.framesRecv, l.open.failures
				l.datagram(now, b, addrA)
				if l.framesRecv != frames || l.open.epoch != before.epoch || *l.open.secret != secret || l.open.next != next || l.open.failures > failures+1 {
					t.Fatalf("seed %d: a forged epoch changed something", seed+i)
				}
				forged++
			}
			want := !got[p.seq] && !l.recv.duplicate(p.seq)
			if want {
				switch p.epoch {
				case epoch, epoch + 1:
				case epoch - 1:
					if want = now.Before(until); want {
						late++
					} else {
						expired++
					}
				default:
					want = false
				}
			} else {
				replayed++
			}
			frames, duplicates := l.framesRecv, l.duplicates
			l.datagram(now, slices.Clone(p.b), addrA)
			if took := l.framesRecv > frames; took != want {
				t.Fatalf("seed %d: frame %d of epoch %d, at epoch %d: taken %v, want %v", seed+i, p.seq, p.epoch, epoch, took, want)
			}
			if got[p.seq] && l.duplicates != duplicates+1 {
				t.Fatalf("seed %d: a replay was not counted", seed+i)
			}
			if want {
				got[p.seq] = true
				if p.epoch == epoch+1 {
					epoch, until = p.epoch, now.Add(3*l.pto())
					changes++
					if *l.open.secret == secret {
						t.Fatal("the secret of the epoch that began is still there")
					}
				}
				// The peer hears of it sooner or later.
				if p.epoch == peer.epoch && r.IntN(3) == 0 {
					peer.acked(p.seq)
				}
			}
			if l.open.epoch != epoch {
				t.Fatalf("seed %d: epoch %d, want %d", seed+i, l.open.epoch, epoch)
			}
			if !again {
				waiting = slices.Delete(waiting, j, j+1)
			}
		}
		if l.fault != nil {
			t.Fatalf("seed %d: %v", seed+i, l.fault)
		}
	}
	t.Logf("%d changes, %d late frames taken, %d refused, %d replayed, %d forged epochs", changes, late, expired, replayed, forged)
	if changes < 100 || late == 0 || expired == 0 || replayed == 0 || forged == 0 {
		t.Error("some case did not occur")
	}
}

// TestOldKeysErased checks that a change of key overwrites the secret in its
// place, that the last epoch's key goes when its time is over, with or without
// traffic, and that the end of the session leaves nothing.
func TestOldKeysErased(t *testing.T) {
	now := time.Now()
	secret := &stc.Secret{1}
	seal, err := newSealing(stc.SuiteChaCha20Poly1305, secret, now)
	if err != nil {
		t.Fatal(err)
	}
	want := *secret
	want.Ratchet()
	old := seal.key
	if err := seal.rotate(now, 5); err != nil {
		t.Fatal(err)
	}
	if *secret != want || seal.key == old {
		t.Error("the secret of the epoch before is still in its place")
	}
	l, peer := bareLoop(t, Config{Identity: identity(t, "B"), Keyring: keyring(t, "one")}, false)
	l.s.state.Store(int32(StateActive))
	if err := peer.rotate(now, 0); err != nil {
		t.Fatal(err)
	}
	b := frame.AppendHeader(nil, frame.Header{Type: frame.TypeControl, Epoch: 1, Session: l.s.id})
	h := len(b)
	l.datagram(now, peer.key.Seal(b, frame.AppendPing(nil), b[:h:h], 0), addrA)
	if l.open.epoch != 1 || l.open.prev == nil {
		t.Fatalf("epoch %d after its first frame", l.open.epoch)
	}
	if next := l.timers(now); next.After(l.open.prevUntil) {
		t.Errorf("nobody wakes up to erase the last key: next at %v", next.Sub(now))
	}
	l.step(l.open.prevUntil)
	if l.open.prev != nil {
		t.Error("the last epoch's key outlives its time")
	}
	l.seal.erase()
	l.open.erase()
	if *l.seal.secret != (stc.Secret{}) || *l.open.secret != (stc.Secret{}) || l.seal.key != nil || l.open.key != nil || l.open.next != nil {
		t.Error("the end of the session leaves keys")
	}
}
