package swarm

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seigr/sttnode/stc"
)

// recorder is an Output that keeps what it is given.
type recorder struct {
	mu    sync.Mutex
	data  []byte
	times []int // how often each byte came
}

func newRecorder(size int) *recorder {
	return &recorder{data: make([]byte, size), times: make([]int, size)}
}

func (r *recorder) WriteChunk(offset uint64, chunk []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range chunk {
		r.times[offset+uint64(i)]++
	}
	copy(r.data[offset:], chunk)
}

// An output gets every fetched chunk once, at its place, and nothing that did
// not match its hash. What the store had, and what repeats, it does not get.
func TestOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 12.5e6, 10*time.Millisecond)
		defer n.close()
		seed := newMemStore()
		const chunk = 1 << 16
		data := randomBytes(7, 90*chunk+77)
		copy(data[40*chunk:], data[30*chunk:31*chunk]) // the same bytes twice
		root := seed.putFile(data, 16, true).hash
		seed.pin(root)
		lying := seed.clone()
		for h := range seed.chunks {
			b := bytes.Clone(lying.blobs[h])
			b[0] ^= 1
			lying.blobs[h] = b
		}
		had := newMemStore()
		for _, i := range []int{3, 4, 77} {
			had.put(data[i*chunk : (i+1)*chunk])
		}
		out := newRecorder(len(data))
		f := newFetch(t, root, func(c *Config) { c.Store, c.Output = had, out })
		f.AddPeer(peerHash(1), "honest", n.dialer(1, NewServer(seed, ServerConfig{})))
		f.AddPeer(peerHash(2), "lying", n.dialer(2, NewServer(lying, ServerConfig{})))
		if p := f.mustComplete(t, seed); p.Bad == 0 {
			t.Error("the liar was not asked")
		}
		for at, times := range out.times {
			want := 1
			switch i := at / chunk; i {
			case 3, 4, 77, 30, 40:
				want = 0
			}
			if times != want {
				t.Fatalf("byte %d of chunk %d came %d times, not %d", at%chunk, at/chunk, times, want)
			}
			if times > 0 && out.data[at] != data[at] {
				t.Fatalf("byte %d of chunk %d is wrong", at%chunk, at/chunk)
			}
		}
	})
}

// Files of a directory have their places one behind the other.
func TestOutputOfDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 12.5e6, time.Millisecond)
		defer n.close()
		seed := newMemStore()
		var all []byte
		var files []testRef
		for i := range uint64(9) {
			data := randomBytes(i, int(i)*3000+1)
			all = append(all, data...)
			files = append(files, seed.putFile(data, 10, false))
		}
		root := seed.putDir(files, true).hash
		seed.pin(root)
		out := newRecorder(len(all))
		f := newFetch(t, root, func(c *Config) { c.Output = out })
		f.AddPeer(peerHash(1), "addr", n.dialer(1, NewServer(seed, ServerConfig{})))
		f.mustComplete(t, seed)
		if stc.Sum(out.data) != stc.Sum(all) {
			t.Error("the files are not where they belong")
		}
	})
}
