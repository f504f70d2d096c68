package node

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seigr/sttnode/session/transport/memory"
	"github.com/seigr/sttnode/stc"
)

func testTicket(t testing.TB) Ticket {
	t.Helper()
	ticket := Ticket{Root: stc.Sum([]byte("film"))}
	id := stc.Sum([]byte("node")).String()
	for _, s := range []string{
		"192.0.2.7:4700", id + "@192.0.2.7:4700", "[2001:db8::1]:1", "boot.example.org:65535",
		id + "@ws://192.0.2.7:4780/stt", "wss://boot.example.org/stt",
	} {
		a, err := ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		ticket.Peers = append(ticket.Peers, a)
	}
	return ticket
}

func TestTicketText(t *testing.T) {
	want := testTicket(t)
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(text), strings.ToUpper(string(text))} {
		got, err := ParseTicket(s)
		if err != nil || got.Root != want.Root || !slices.Equal(got.Peers, want.Peers) || !LooksLikeTicket(s) {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	if LooksLikeTicket(want.Root.String()) {
		t.Error("a hash looks like a ticket")
	}
	// Every single letter that is lost or changed is noticed.
	for i := range text {
		other := byte('a')
		if text[i] == 'a' {
			other = 'b'
		}
		for _, s := range []string{string(text[:i]) + string(text[i+1:]), string(text[:i]) + string(other) + string(text[i+1:]), string(text[:i])} {
			if got, err := ParseTicket(s); !errors.Is(err, ErrTicket) {
				t.Fatalf("ticket changed at %d: %+v, %v", i, got, err)
			}
		}
	}
}

// The text of version 1 stays as it is documented.
func TestTicketFormat(t *testing.T) {
	root := stc.Hash{0: 1, 31: 2}
	text, err := Ticket{Root: root, Peers: []Address{{Host: "192.0.2.7", Port: 4700}}}.MarshalText()
	const want = "stt1aeaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabadqaaaidrexbye6mtc" // made by another program
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestTicketRefuses(t *testing.T) {
	good := Address{Host: "192.0.2.7", Port: 4700}
	root := stc.Sum([]byte("film"))
	long := Address{Host: strings.Repeat("a", 254), Port: 1}
	var many, urls []Address
	for i := range MaxTicketPeers + 1 {
		many = append(many, Address{Host: "192.0.2.7", Port: uint16(i + 1)})
		urls = append(urls, Address{URL: "ws://h" + strings.Repeat("x", i) + "/" + strings.Repeat("p", 900)})
	}
	for name, ticket := range map[string]Ticket{
		"no root": {Peers: []Address{good}}, "no address": {Root: root}, "twice": {root, []Address{good, good}},
		"too many": {root, many}, "too long": {root, urls[:9]}, "port 0": {root, []Address{{Host: "192.0.2.7"}}},
		"no host": {root, []Address{{Port: 4700}}}, "long host": {root, []Address{long}},
		"link-local": {root, []Address{{Host: "fe80::1%eth0", Port: 4700}}}, "other scheme": {root, []Address{{URL: "http://h/p"}}},
		"ID in URL": {root, []Address{{URL: "ws://" + root.String() + "@h/p"}}},
	} {
		if text, err := ticket.MarshalText(); !errors.Is(err, ErrTicket) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
	if text, err := (Ticket{root, many[:MaxTicketPeers]}).MarshalText(); err != nil {
		t.Errorf("as many as fit: %v", err)
	} else if got, err := ParseTicket(string(text)); err != nil || len(got.Peers) != MaxTicketPeers {
		t.Errorf("as many as fit: %v", err)
	}
}

func FuzzParseTicket(f *testing.F) {
	text, err := testTicket(f).MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text[:len(text)-7])
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would keep the fuzzer from everything else.
		body, err := ticketText.DecodeString(strings.TrimPrefix(strings.ToLower(string(b)), ticketPrefix))
		if err != nil {
			body = b
		}
		s := ticketPrefix + ticketText.EncodeToString(append(body[:len(body):len(body)], ticketSum(body)...))
		ticket, err := ParseTicket(s)
		if err != nil {
			return
		}
		again, err := ticket.MarshalText()
		if err != nil || string(again) != s || len(ticket.Peers) > MaxTicketPeers || len(s) > MaxTicketSize {
			t.Fatalf("%s: %+v: %s, %v", s, ticket, again, err)
		}
		for _, a := range ticket.Peers {
			if same, err := ParseAddress(a.String()); err != nil || same != a {
				t.Fatalf("%+v, %v", a, err)
			}
		}
	})
}

// Who has a ticket needs no bootstrap node, and is in the network afterwards.
func TestFetchByTicket(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 3<<20)
		seeder, root := w.seed(ctx, "s", "film", data)
		ticket, err := seeder.Ticket(root)
		if err != nil {
			t.Fatal(err)
		}
		if len(ticket.Peers) != 1 || ticket.Peers[0].Peer != seeder.ID() {
			t.Fatalf("%+v", ticket)
		}
		dead := Address{Host: "10.9.9.9", Port: 1}
		anybody := addressOf(seeder)
		for name, peers := range map[string][]Address{"named": append(ticket.Peers, dead), "anybody": {dead, anybody}} {
			f := w.start(w.config(name))
			out := filepath.Join(w.dir, "out-"+name)
			start := time.Now()
			result, err := f.Fetch(ctx, root, FetchOptions{Output: out, Peers: peers})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wantFile(t, out, data)
			if len(result.Sources) != 1 || result.Sources[0].Node != seeder.ID() {
				t.Errorf("%s: sources %+v", name, result.Sources)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("%s: took %v", name, d)
			}
			if found, err := f.FindTicket(ctx, root); err != nil || found.Peers[0].Peer != seeder.ID() {
				t.Errorf("%s: is not in the network: %+v, %v", name, found, err)
			}
		}
	})
}

// A peer that is named and comes up late is waited for.
func TestGivenPeerComesLate(t *testing.T) {
	inBubble(t, lan, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		data := testBytes("film", 1<<20)
		_, root := w.seed(ctx, "hermit", "film", data)
		f := w.start(w.config("f"))
		address := Address{Host: "10.0.0.3", Port: 4700}
		done := make(chan error, 1)
		go func() {
			_, err := f.Fetch(ctx, root, FetchOptions{Peers: []Address{address}, SearchTimeout: time.Minute})
			done <- err
		}()
		time.Sleep(15 * time.Second)
		if s, _ := w.seed(ctx, "s", "film", data); addressOf(s) != address {
			t.Fatalf("at %v", addressOf(s))
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestGivenPeersInVain(t *testing.T) {
	inBubble(t, memory.Link{Delay: 2 * time.Millisecond}, func(t *testing.T, w *network) {
		ctx := within(t, time.Hour)
		root := stc.Sum([]byte("nobody's"))
		f := w.start(w.config("f"))
		other := w.start(w.config("other"))
		strangers := w.config("stranger")
		strangers.Keyring = testKeyring(t, "another")
		stranger := w.start(strangers)
		start := time.Now()
		_, err := f.Fetch(ctx, root, FetchOptions{Peers: []Address{addressOf(stranger)}})
		if d := time.Since(start); !errors.Is(err, ErrWrongSeed) || d > 5*time.Second {
			t.Errorf("with a peer of another network: %v after %v", err, d)
		}
		start = time.Now()
		_, err = f.Fetch(ctx, root, FetchOptions{Peers: []Address{addressOf(other), {Host: "10.9.9.9", Port: 1}}})
		var none *NoProviderError
		if !errors.As(err, &none) || none.Given != 2 || none.Err == nil || time.Since(start) > 15*time.Second {
			t.Errorf("with peers that do not have it: %v after %v", err, time.Since(start))
		}
		if _, err := f.Fetch(ctx, root, FetchOptions{Peers: make([]Address, 65)}); !errors.Is(err, ErrAddress) {
			t.Errorf("with too many: %v", err)
		}
	})
}

// Who listens on all addresses names those that others can use.
func TestOwnTicketOnAllAddresses(t *testing.T) {
	l := newLoopback(t)
	cfg := l.config("n")
	cfg.Listen, cfg.WebSocketListen = ":0", ":0"
	n := l.start(cfg)
	ticket, err := n.Ticket(stc.Sum([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	var udp, ws int
	for _, a := range ticket.Peers {
		if a.Peer != n.ID() || a.Host == "::" || a.Host == "0.0.0.0" {
			t.Errorf("%v", a)
		}
		if a.URL != "" {
			ws++
		} else {
			udp++
		}
	}
	if udp == 0 || ws != udp {
		t.Errorf("%v", ticket.Peers)
	}
}
