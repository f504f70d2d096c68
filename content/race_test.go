package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content/internal/faultfs"
	"github.com/seigr/sttnode/stc"
)

// held opens a store in a bubble of synctest, whose files can stop a call where a test wants to do something else.
func held(t *testing.T, test func(t *testing.T, fsys *faultfs.FS, s *Store)) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New(1)
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		test(t, fsys, s)
		s.Close()
		<-time.After(2 * time.Second) // in the bubble's time: goleveldb's mpoolDrain
	})
}

// TestPutWhileDeleting puts a blob at the moment when its deletion is being written. It must not be told that it is here.
func TestPutWhileDeleting(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		blob := make([]byte, 20<<10)
		h, err := s.Put(ctx, blob)
		if err != nil {
			t.Fatal(err)
		}
		reached, release := fsys.Hold(faultfs.Sync, 1)
		deleted, put := make(chan error, 1), make(chan error, 1)
		go func() { deleted <- s.Delete(ctx, h) }()
		<-reached
		if ok, err := s.Has(h); err != nil || ok {
			t.Fatalf("has what is being deleted: %v %v", ok, err)
		}
		if _, err := s.Get(nil, h); !errors.Is(err, ErrNotFound) {
			t.Fatalf("get of what is being deleted: %v", err)
		}
		go func() { _, err := s.Put(ctx, blob); put <- err }()
		synctest.Wait()
		release()
		if err := errors.Join(<-deleted, <-put); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(nil, h); err != nil {
			t.Fatalf("put and acknowledged: %v", err)
		}
	})
}

// TestDeleteWhilePutting deletes a blob whose damaged copy is being replaced.
func TestDeleteWhilePutting(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		blob := make([]byte, 20<<10)
		h, err := s.Put(ctx, blob)
		if err != nil {
			t.Fatal(err)
		}
		fsys.Damage(s.segments.Name(1), func(b []byte) []byte {
			b[len(b)/2] ^= 1
			return b
		})
		if _, err := s.Get(nil, h); !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if ok, err := s.Has(h); ok || err != nil {
			t.Fatalf("has a damaged blob: %v", err)
		}
		reached, release := fsys.Hold(faultfs.Sync, 1)
		put, deleted := make(chan error, 1), make(chan error, 1)
		go func() { _, err := s.Put(ctx, blob); put <- err }()
		<-reached
		if freed, err := s.remove([]stc.Hash{h}, nil); err != nil || freed.Blobs != 0 {
			t.Fatalf("%+v %v", freed, err)
		}
		go func() { deleted <- s.Delete(ctx, h) }()
		synctest.Wait()
		select {
		case err := <-deleted:
			t.Fatalf("deleted beside a put: %v", err)
		default:
		}
		release()
		if err := errors.Join(<-put, <-deleted); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Blobs != 0 || st.Bytes != 0 || st.SegmentBytes != 0 {
			t.Fatalf("%+v", st)
		}
	})
}

// TestSamePut puts one blob from many goroutines. It is stored once, and nobody is told before it is safe.
func TestSamePut(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		blob := make([]byte, 20<<10)
		for _, fault := range []error{nil, errors.New("disk on fire")} {
			blob[0]++
			results := make(chan error)
			reached, release := fsys.Hold(faultfs.Sync, 1)
			fsys.Fail(faultfs.Sync, 1, fault, false)
			if fault == nil {
				fsys.Fail(faultfs.Sync, 0, nil, false)
			}
			cancelled, cancel := context.WithCancel(ctx)
			go func() { _, err := s.Put(cancelled, blob); results <- err }()
			for range 9 {
				go func() { _, err := s.Put(ctx, blob); results <- err }()
			}
			<-reached
			synctest.Wait()
			select {
			case err := <-results:
				t.Fatalf("acknowledged before it was synced: %v", err)
			default:
			}
			cancel()
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled: %v", err)
			}
			release()
			for range 9 {
				if err := <-results; !errors.Is(err, fault) {
					t.Fatal(err)
				}
			}
		}
		if st := s.Stats(); st.Blobs != 1 {
			t.Fatalf("%+v", st)
		}
	})
}

// collectHeld fills a store with garbage, two batches of it and some contents of two blobs, and stops a collection when it
// deletes the first batch.
func collectHeld(t *testing.T, fsys *faultfs.FS, s *Store) (garbage []stc.Hash, contents [][]stc.Hash, resume func()) {
	ctx := context.Background()
	for i := range 100 {
		root, blobs := describe(fmt.Append(nil, "content ", i), fmt.Sprint(i))
		hashes, err := s.PutMany(ctx, blobs)
		if err != nil || hashes[0] != root {
			t.Fatal(err)
		}
		contents = append(contents, hashes)
	}
	var blobs [][]byte
	for i := range 2 * deleteBatch {
		blobs = append(blobs, fmt.Append(nil, "garbage ", i))
	}
	garbage, err := s.PutMany(ctx, blobs)
	if err != nil {
		t.Fatal(err)
	}
	reached, release := fsys.Hold(faultfs.Sync, 1)
	done := make(chan error, 1)
	go func() { _, err := s.GC(ctx, false); done <- err }()
	<-reached
	return garbage, contents, func() {
		t.Helper()
		release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestCollectSparesTouched looks blobs up while they are about to be collected: what is said to be here stays.
func TestCollectSparesTouched(t *testing.T) {
	for name, look := range map[string]func(s *Store, h stc.Hash) bool{
		"Has": func(s *Store, h stc.Hash) bool { ok, _ := s.Has(h); return ok },
		"Get": func(s *Store, h stc.Hash) bool { _, err := s.Get(nil, h); return err == nil },
	} {
		t.Run(name, func(t *testing.T) {
			held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
				garbage, _, resume := collectHeld(t, fsys, s)
				var here []stc.Hash
				for _, h := range garbage {
					if look(s, h) {
						here = append(here, h)
					}
				}
				if len(here) == 0 || len(here) == len(garbage) {
					t.Fatalf("%d of %d are here: not stopped between the batches", len(here), len(garbage))
				}
				resume()
				for _, h := range here {
					if ok, err := s.Has(h); !ok {
						t.Fatalf("was here, was looked up, and is gone: %v", err)
					}
				}
				if st := s.Stats(); st.Blobs != uint64(len(here)) {
					t.Fatalf("%d blobs left, %d were looked up", st.Blobs, len(here))
				}
			})
		})
	}
}

// TestCollectSparesNewPins pins contents whose blobs are about to be collected.
func TestCollectSparesNewPins(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		_, contents, resume := collectHeld(t, fsys, s)
		var whole [][]stc.Hash
		s.mu.Lock()
		for _, c := range contents {
			if s.deleting[c[0]] == nil && s.deleting[c[1]] == nil {
				whole = append(whole, c)
			}
		}
		s.mu.Unlock()
		if len(whole) == 0 || len(whole) == len(contents) {
			t.Fatalf("%d of %d are whole: not stopped between the batches", len(whole), len(contents))
		}
		pinned := make(chan error, 1)
		go func() { pinned <- s.Pin(context.Background(), whole[0][0], PinInfo{State: PinComplete}) }()
		for announced := false; !announced; runtime.Gosched() { // It waits for the index then, which the collection holds.
			s.mu.Lock()
			announced = len(s.newPins) > 0
			s.mu.Unlock()
		}
		resume()
		if err := <-pinned; err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := s.ExportTo(context.Background(), whole[0][0], &out, nil); err != nil {
			t.Fatalf("pinned while it was whole: %v", err)
		}
	})
}

// TestCollectSparesPutting begins a collection while a content is being put under its pin, in one call: its root comes too late to be
// marked by, and what is below it is new, or was garbage before.
func TestCollectSparesPutting(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		ctx := context.Background()
		data := make([]byte, 50<<10)
		root, blobs := describe(data, "content")
		hashes := make([]stc.Hash, len(blobs))
		stc.SumMany(hashes, blobs)
		if _, err := s.Put(ctx, blobs[1]); err != nil {
			t.Fatal(err)
		}
		if err := s.Pin(ctx, root, PinInfo{State: PinPartial}); err != nil {
			t.Fatal(err)
		}
		reached, release := fsys.Hold(faultfs.Sync, 1)
		put := make(chan error, 1)
		go func() { put <- s.PutVerified(ctx, hashes, blobs) }()
		<-reached
		_, err := s.collect(ctx, false, spareAll, func(sweep func(stc.Hash) error) error {
			release()
			if err := <-put; err != nil {
				return err
			}
			for _, h := range hashes {
				if err := sweep(h); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range hashes {
			if ok, err := s.Has(h); !ok {
				t.Errorf("blob %d is gone: %v", i, err)
			}
		}
	})
}

// TestCloseWaits closes a store in the middle of a put.
func TestCloseWaits(t *testing.T) {
	held(t, func(t *testing.T, fsys *faultfs.FS, s *Store) {
		reached, release := fsys.Hold(faultfs.Sync, 1)
		put, closed := make(chan error, 1), make(chan error, 1)
		blob := make([]byte, 20<<10)
		go func() { _, err := s.Put(context.Background(), blob); put <- err }()
		<-reached
		go func() { closed <- s.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("closed beside a put")
		default:
		}
		if _, err := s.Get(nil, stc.Hash{}); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		release()
		if err := errors.Join(<-put, <-closed); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		s, err := openFault(fsys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(nil, stc.Sum(blob)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
