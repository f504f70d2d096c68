package swarm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// talk is a stream to a server, spoken by hand.
type talk struct {
	*testConn
	t    *testing.T
	done chan error // result of Serve
}

func newTalk(t *testing.T, s *Server, peer byte) talk {
	client, server := newTestPipe(0, time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), server, peerHash(peer)) }()
	return talk{client, t, done}
}

func (k talk) say(messages ...[]byte) {
	k.t.Helper()
	if _, err := k.Write(bytes.Join(messages, nil)); err != nil {
		k.t.Fatal(err)
	}
}

func (k talk) hear() message {
	k.t.Helper()
	m, err := readMessage(k)
	if err != nil {
		k.t.Fatal(err)
	}
	return m
}

func (k talk) expect(want []byte) {
	k.t.Helper()
	m := k.hear()
	if got := append(appendHeader(nil, m.t, len(m.body)), m.body...); !bytes.Equal(got, want) {
		k.t.Fatalf("heard %.100x, want %.100x", got, want)
	}
}

func (k talk) expectEnd() {
	k.t.Helper()
	if m, err := readMessage(k); err != io.EOF {
		k.t.Fatalf("heard %v %v, want the end", m.t, err)
	}
}

func TestServerDialogue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		data := randomBytes(1, 100_000)
		root := store.putFile(data, 16, true).hash
		store.pin(root)
		chunk, damaged := stc.Sum(data[:1<<16]), store.put([]byte("damaged"))
		store.corrupt[damaged] = true
		tooLong := store.put(make([]byte, maxBlob+1))
		empty := store.put(nil)
		s := NewServer(store, ServerConfig{})

		k := newTalk(t, s, 1)
		k.say(appendOpen(nil, root))
		k.expect(appendHaveComplete(nil))
		k.say(appendWant(nil, 7, chunk), appendWant(nil, 1<<31, root))
		k.expect(appendBlob(nil, 7, data[:1<<16]))
		k.expect(appendBlob(nil, 1<<31, store.blobs[root]))
		k.say(appendWant(nil, 7, peerHash(9)), appendWant(nil, 8, damaged), appendWant(nil, 9, tooLong), appendWant(nil, 10, empty))
		for _, id := range []uint32{7, 8, 9} {
			k.expect(appendRequest(nil, msgMissing, id))
		}
		k.expect(appendBlob(nil, 10, nil))
		k.say(appendRequest(nil, msgCancel, 99)) // nothing is open
		if st := s.Stats(); st.Streams != 1 || st.Peers != 1 || st.Requests != 6 || st.Blobs != 3 || st.Missing != 3 {
			t.Errorf("%+v", st)
		}
		k.Close()
		if err := <-k.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if st := s.Stats(); st.Streams != 0 || st.Peers != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// What breaks the rules ends the stream, with a reason where one can be told.
func TestServerRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root := store.putFile([]byte("x"), 16, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{MaxStreams: 3, MaxStreamsPerPeer: 2})
		open := appendOpen(nil, root)
		for name, c := range map[string]struct {
			say    [][]byte
			have   bool
			reason closeReason
			err    error
		}{
			"unknown content":      {[][]byte{appendOpen(nil, peerHash(1))}, false, closeNotFound, nil},
			"WANT before OPEN":     {[][]byte{appendWant(nil, 1, root)}, false, closeMalformed, ErrProtocol},
			"garbage":              {[][]byte{randomBytes(5, 100)}, false, closeMalformed, ErrProtocol},
			"OPEN twice":           {[][]byte{open, open}, true, closeMalformed, ErrProtocol},
			"garbage behind":       {[][]byte{open, {0xff, 0, 0, 0}}, true, closeMalformed, ErrProtocol},
			"BLOB from the client": {[][]byte{open, appendBlob(nil, 1, []byte("x"))}, true, closeMalformed, ErrProtocol},
			"silence":              {nil, false, 0, os.ErrDeadlineExceeded},
			"half an OPEN":         {[][]byte{open[:20]}, false, 0, os.ErrDeadlineExceeded},
		} {
			k := newTalk(t, s, 1)
			k.say(c.say...)
			if c.have {
				k.expect(appendHaveComplete(nil))
			}
			if c.reason != 0 {
				k.expect(appendClose(nil, c.reason))
			}
			k.expectEnd()
			if err := <-k.done; !errors.Is(err, c.err) {
				t.Errorf("%s: %v", name, err)
			}
		}

		// Too many streams: of one peer, then of all.
		open1, open2 := newTalk(t, s, 1), newTalk(t, s, 1)
		synctest.Wait()
		third := newTalk(t, s, 1)
		third.expect(appendClose(nil, closeBusy))
		if err := <-third.done; !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		other := newTalk(t, s, 2)
		synctest.Wait()
		fifth := newTalk(t, s, 2)
		fifth.expect(appendClose(nil, closeBusy))
		<-fifth.done
		for _, k := range []talk{open1, open2, other} {
			k.Close()
			<-k.done
		}
	})
}

// The server says goodbye when it stops.
func TestServerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root := store.putFile([]byte("x"), 16, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{})
		ctx, stop := context.WithCancel(t.Context())
		client, server := newTestPipe(0, time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, server, peerHash(1)) }()
		k := talk{client, t, done}
		k.say(appendOpen(nil, root))
		k.expect(appendHaveComplete(nil))
		stop()
		k.expect(appendClose(nil, closeGoingAway))
		k.expectEnd()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// CANCEL takes out what is not yet being read; every request has one answer.
func TestServerCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		data := randomBytes(2, 4<<20)
		root := store.putFile(data, 18, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{})
		client, server := newTestPipe(1e6, time.Millisecond) // slow, so that requests wait
		go s.Serve(t.Context(), server, peerHash(1))
		k := talk{client, t, nil}
		k.say(appendOpen(nil, root))
		for i := range uint32(16) {
			k.say(appendWant(nil, i, stc.Sum(data[i<<18:(i+1)<<18])))
		}
		for i := range uint32(16) {
			k.say(appendRequest(nil, msgCancel, 15-i))
		}
		k.expect(appendHaveComplete(nil))
		answers := make(map[uint32]msgType)
		blobs := 0
		for range 16 {
			m := k.hear()
			id := parseRequest(m.body)
			if answers[id] != 0 {
				t.Errorf("request %d is answered twice", id)
			}
			if answers[id] = m.t; m.t == msgBlob {
				blobs++
			}
		}
		if blobs > 8 || answers[0] != msgBlob || answers[15] != msgCancelled {
			t.Errorf("%d blobs came: %v", blobs, answers)
		}
		k.Close()
	})
}

// A peer that asks without end and reads nothing costs a bounded queue and a
// few buffers, and does not slow down another one.
func TestServerFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 10e6, 5*time.Millisecond)
		defer n.close()
		store := newMemStore()
		data := randomBytes(3, 8<<20)
		root := store.putFile(data, 18, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{})
		var sent [4]int
		var wg sync.WaitGroup
		var floods []*testConn
		hot := stc.Sum(data[:1<<18])
		for i := range sent {
			client, server := newTestPipe(0, time.Millisecond)
			client.out.buffer = 64 << 10
			floods = append(floods, client)
			wg.Go(func() { s.Serve(t.Context(), server, peerHash(66)) })
			wg.Go(func() {
				client.Write(appendOpen(nil, root))
				for id := uint32(0); ; id++ {
					if _, err := client.Write(appendWant(nil, id, hot)); err != nil {
						return
					}
					sent[i]++
				}
			})
		}
		time.Sleep(time.Second)
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, s))
		start := time.Now()
		f.mustComplete(t, store)
		if took, alone := time.Since(start), seconds(8<<20/n.rate); took > alone*12/10 {
			t.Errorf("took %v beside the flood, alone %v", took, alone)
		}
		for _, c := range floods {
			c.Close()
		}
		wg.Wait()
		for i, n := range sent {
			// The queue, what the pipe holds, and what the server's buffer holds.
			if limit := maxOpenRequests + (64<<10)/wantSize + 300; n > limit {
				t.Errorf("flood %d: the server took %d requests, want at most %d", i, n, limit)
			}
		}
		if store.gets > 300 {
			t.Errorf("%d blobs were read for peers that read nothing", store.gets)
		}
	})
}

// slowStore reads one blob in 10 ms.
type slowStore struct {
	*memStore
	takes time.Duration // what a disk takes for a blob, on the time of the bubble
}

func (s slowStore) Get(dst []byte, h stc.Hash) ([]byte, error) {
	time.Sleep(s.takes)
	return s.memStore.Get(dst, h)
}

// Peers share the readers evenly, however many streams they have.
func TestServerFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root := store.putFile([]byte("x"), 16, true).hash
		store.pin(root)
		s := NewServer(slowStore{store, 10 * time.Millisecond}, ServerConfig{Readers: 2, Cache: -1})
		answered := make(map[byte]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var conns []*testConn
		for i := range 11 {
			peer := byte(1)
			if i == 0 {
				peer = 2
			}
			client, server := newTestPipe(0, time.Millisecond)
			conns = append(conns, client)
			wg.Go(func() { s.Serve(t.Context(), server, peerHash(peer)) })
			wg.Go(func() {
				client.Write(appendOpen(nil, root))
				readMessage(client)
				for id := range uint32(500) {
					client.Write(appendWant(nil, id, root))
				}
				for {
					if _, err := readMessage(client); err != nil {
						return
					}
					mu.Lock()
					answered[peer]++
					mu.Unlock()
				}
			})
		}
		time.Sleep(2 * time.Second)
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
		if answered[2] < 50 || answered[2]*3 < answered[1] {
			t.Errorf("a peer with one stream got %d answers, one with ten got %d", answered[2], answered[1])
		}
	})
}

// A stream that takes nothing is closed; a slow one is not.
func TestServerWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		data := randomBytes(4, 1<<20)
		root := store.putFile(data, 20, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{})

		client, server := newTestPipe(0, time.Millisecond)
		client.in.buffer = 64 << 10
		start := time.Now()
		k := talk{client, t, make(chan error, 1)}
		go func() { k.done <- s.Serve(t.Context(), server, peerHash(1)) }()
		k.say(appendOpen(nil, root), appendWant(nil, 1, stc.Sum(data)))
		if err := <-k.done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		// It took a little of the blob at first, and that counts as progress.
		if d := time.Since(start); d < time.Minute || d > 121*time.Second {
			t.Errorf("closed after %v", d)
		}

		client, server = newTestPipe(5000, time.Millisecond) // 210 s for the blob
		server.out.buffer = 64 << 10
		go func() { k.done <- s.Serve(t.Context(), server, peerHash(1)) }()
		k = talk{client, t, k.done}
		k.say(appendOpen(nil, root), appendWant(nil, 1, stc.Sum(data)))
		k.expect(appendHaveComplete(nil))
		k.expect(appendBlob(nil, 1, data))
		k.Close()
		<-k.done
	})
}

// failingConn fails with the first write.
type failingConn struct{ net.Conn }

func (failingConn) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Serve ends, with all its goroutines, when the stream does not take bytes.
func TestServerStreamFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		root := store.putFile([]byte("x"), 16, true).hash
		store.pin(root)
		client, server := newTestPipe(0, time.Millisecond)
		client.Write(appendOpen(nil, root))
		if err := NewServer(store, ServerConfig{}).Serve(t.Context(), failingConn{server}, peerHash(1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}
