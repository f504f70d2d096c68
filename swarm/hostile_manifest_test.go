package swarm

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// peakHeap samples the heap until stop is called, and returns how far it has
// grown. What the stores of a test hold counts as well.
func peakHeap() (stop func() (grown uint64)) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	most := before
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			case <-time.After(500 * time.Millisecond):
				most = max(most, heap())
			}
		}
	}()
	return func() uint64 {
		close(over)
		<-done
		return most - before
	}
}

// A tree of a million empty files is fetched like any other: by its manifests
// alone, a window of them at a time.
func TestMillionEmptyFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector, which shorter tests serve as well")
	}
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 10e6, 10*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		const files = 1 << 20
		var dirs, tops []testRef
		empty := make([]testRef, 512)
		for i := range files / len(empty) {
			// One chunk makes each directory differ from all others.
			empty[0] = seed.putFile(binary.BigEndian.AppendUint32(nil, uint32(i)), 16, false)
			dirs = append(dirs, seed.putDir(empty, false))
			if len(dirs) == 512 {
				tops, dirs = append(tops, seed.putDir(dirs, false)), nil
			}
		}
		root := seed.putDir(tops, true).hash
		seed.pin(root)
		var size uint64
		for _, b := range seed.blobs {
			size += uint64(len(b))
		}
		f := newFetch(t, root, nil)
		f.AddPeer(peerHash(1), "", n.dialer(1, NewServer(seed, ServerConfig{})))
		stop := peakHeap()
		start := time.Now()
		p := f.mustComplete(t, seed)
		if grown := stop(); grown > size+48<<20 { // size is what the fetch has stored
			t.Errorf("the heap has grown by %d bytes for manifests of %d", grown, size)
		}
		if p.FetchedBlobs != uint64(len(seed.blobs)) || p.Duplicate*50 > p.Fetched {
			t.Errorf("%d blobs of %d, %d bytes twice", p.FetchedBlobs, len(seed.blobs), p.Duplicate)
		}
		if took, line := time.Since(start), seconds(float64(size)/n.rate); took > 2*line+5*time.Second {
			t.Errorf("took %v, the line needs %v", took, line)
		}
	})
}

// A tree that goes down a thousand steps, with much beside each, is either
// fetched as a whole or refused for what it is, in bounded memory, and an honest
// transfer beside it hardly notices.
func TestDeepManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostileCase(t)
		defer h.net.close()
		store := newMemStore()
		at := store.putDir(nil, false)
		wide := make([]testRef, 400)
		for i := range wide {
			wide[i] = store.putFile([]byte("x"), 16, false)
		}
		for range 1000 {
			wide[0] = at
			at = store.putDir(wide, false)
		}
		root := store.putDir([]testRef{at}, true).hash
		store.pin(root)

		deep := newFetch(t, root, nil)
		hostile := NewServer(store, ServerConfig{})
		deep.AddPeer(peerHash(66), "", h.net.dialerAt(66, 50e6, 10*time.Millisecond, func(ctx context.Context, conn net.Conn) {
			hostile.Serve(ctx, conn, peerHash(200))
		}))
		failed := make(chan error, 1)
		stop := peakHeap()
		go func() { failed <- deep.Run(t.Context()) }()

		honest := newFetch(t, h.root, nil)
		honest.AddPeer(peerHash(1), "", h.net.dialer(1, NewServer(h.seed, ServerConfig{})))
		start := time.Now()
		honest.mustComplete(t, h.seed)
		if took, alone := time.Since(start), seconds(float64(8<<20)/h.net.rate); took > alone*125/100 {
			t.Errorf("took %v beside it, alone %v", took, alone)
		}
		switch err := <-failed; {
		case err == nil:
			if err := deep.store.covers(store); err != nil {
				t.Error(err)
			}
		case !errors.Is(err, ErrBadManifest):
			t.Error(err)
		}
		if grown := stop(); grown > 96<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
	})
}
