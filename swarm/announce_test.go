package swarm

import (
	"bytes"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// A content that is partly here is announced as what it is; updates of a
// download come at intervals, and its end as "complete".
func TestServerAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		data := randomBytes(5, 40<<12)
		root := store.putFile(data, 12, true).hash
		part := store.clone()
		for i := range 40 {
			if i%4 == 0 || i >= 30 {
				delete(part.blobs, stc.Sum(data[i<<12:(i+1)<<12]))
			}
		}
		var want rangeSet
		for i := range uint64(30) {
			if i%4 != 0 {
				want.add(span{i, i + 1})
			}
		}
		s := NewServer(part, ServerConfig{})
		k := newTalk(t, s, 1)
		second := newTalk(t, s, 2)
		for _, k := range []talk{k, second} {
			k.say(appendOpen(nil, root))
			var got rangeSet
			for got.len() < want.len() {
				spans, complete, err := parseHave(nil, k.hear().body)
				if err != nil || complete {
					t.Fatal(complete, err)
				}
				for _, s := range spans {
					got.add(s)
				}
			}
			if !bytes.Equal(appendHave(nil, got.spans), appendHave(nil, want.spans)) {
				t.Errorf("announced %v, want %v", got.spans, want.spans)
			}
			k.Close()
			<-k.done
		}
		if len(s.shared) != 0 {
			t.Error("a survey is left that nobody follows")
		}

		// All is here, but it isn't pinned: found out by the survey.
		k = newTalk(t, NewServer(store, ServerConfig{}), 1)
		k.say(appendOpen(nil, root))
		for {
			if _, complete, _ := parseHave(nil, k.hear().body); complete {
				break
			}
		}
		k.Close()
		<-k.done

		d, err := NewDownload(Config{Root: root, Store: newMemStore()})
		if err != nil {
			t.Fatal(err)
		}
		s = NewServer(newMemStore(), ServerConfig{})
		stop := s.Share(d, nil)
		k = newTalk(t, s, 1)
		k.say(appendOpen(nil, root))
		k.expect(appendHave(nil, nil))
		start := time.Now()
		d.have.add(span{3, 5})
		d.have.add(span{5, 6}, span{9, 10})
		k.expect(appendHave(nil, []span{{3, 6}, {9, 10}}))
		if wait := time.Since(start); wait < 90*time.Millisecond {
			t.Errorf("updated after %v", wait)
		}
		d.have.add(span{0, 1}, span{3, 6})
		k.expect(appendHave(nil, []span{{0, 1}}))
		d.have.finish()
		k.expect(appendHaveComplete(nil))
		stop()
		stop()
		late := newTalk(t, s, 2)
		late.say(appendOpen(nil, root))
		late.expect(appendClose(nil, closeNotFound))
		<-late.done
		k.Close()
		<-k.done
	})
}

// What several peers ask for comes from memory; what one asks for once doesn't
// stay there.
func TestServerCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0, time.Millisecond)
		defer n.close()
		store := newMemStore()
		root := store.putFile(randomBytes(6, 8<<20), 18, true).hash
		store.pin(root)
		s := NewServer(store, ServerConfig{Cache: 12 << 20})
		for i := range 5 {
			f := newFetch(t, root, nil)
			f.AddPeer(peerHash(1), "", n.dialer(1, s))
			f.mustComplete(t, store)
			if i == 0 && s.cache.size > 0 {
				t.Errorf("%d bytes are cached after one fetch", s.cache.size)
			}
		}
		blobs := len(store.blobs)
		if st := s.Stats(); store.gets != 2*blobs || st.CacheHits != uint64(3*blobs) {
			t.Errorf("%d reads and %d hits for 5 fetches of %d blobs", store.gets, st.CacheHits, blobs)
		}
	})
}

func TestBlobCacheBounded(t *testing.T) {
	pool := &bufferPool{limit: 1 << 20}
	c := newBlobCache(1<<20, pool)
	var kept []*cachedBlob
	for i := range 200 {
		blob := bytes.Repeat([]byte{byte(i)}, 10_000+i)
		h := stc.Sum(blob)
		c.offer(h, blob)
		if c.get(h) != nil {
			t.Fatal("cached at first sight")
		}
		c.offer(h, blob)
		c.offer(h, blob)
		b := c.get(h)
		if b == nil {
			t.Fatal("not cached at second sight")
		}
		if i%10 == 0 {
			kept = append(kept, b) // still being sent when it is pushed out
		} else {
			c.release(b)
		}
		if c.size > 1<<20 {
			t.Fatalf("%d bytes cached", c.size)
		}
	}
	for i, b := range kept {
		if !bytes.Equal(b.data, bytes.Repeat([]byte{byte(10 * i)}, 10_000+10*i)) {
			t.Fatalf("blob %d changed while it was in use", 10*i)
		}
		c.release(b)
	}
	large := make([]byte, 1<<19)
	c.offer(stc.Sum(large), large)
	c.offer(stc.Sum(large), large)
	if c.get(stc.Sum(large)) != nil {
		t.Error("a blob of half the cache was taken in")
	}
	if pool.kept > pool.limit {
		t.Errorf("pool keeps %d bytes", pool.kept)
	}
}

// Server and download together over a real store: bytes in, bytes out.
func TestRealStores(t *testing.T) {
	dir := t.TempDir()
	source := dir + "/source"
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"large": randomBytes(1, 3<<20+5), "small": []byte("hello"), "empty": nil}
	for name, b := range files {
		if err := os.WriteFile(source+"/"+name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stores [2]*content.Store
	for i := range stores {
		var err error
		if stores[i], err = content.Open(dir+"/store"+string(rune('0'+i)), content.Config{Key: [32]byte{byte(i + 1)}}); err != nil {
			t.Fatal(err)
		}
		defer stores[i].Close()
	}
	imported, err := stores[0].Import(t.Context(), source, content.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	root := imported.Root
	d, err := NewDownload(Config{Root: root, Store: stores[1]})
	if err != nil {
		t.Fatal(err)
	}
	d.AddPeer(peerHash(1), "", tcpSeeder(t, NewServer(stores[0], ServerConfig{})))
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := stores[1].Export(t.Context(), root, dir+"/out", content.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(dir + "/out/" + name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
