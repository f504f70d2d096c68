package content

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/seigr/sttnode/stc"
)

// Stores and files of benchmarks lie in $STT_BENCH_DIR, by default the system's temporary directory.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("STT_BENCH_DIR"), "content-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkPut stores distinct 256 KiB blobs, 16 a call, each call durable when it returns, from two callers at once.
func BenchmarkPut(b *testing.B) {
	s := openTest(b, filepath.Join(benchDir(b), "store"))
	const batch = 16
	b.SetBytes(batch * ChunkSize)
	b.SetParallelism(2)
	b.RunParallel(func(pb *testing.PB) {
		src := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
		blobs := make([][]byte, batch)
		for i := range blobs {
			blobs[i] = make([]byte, ChunkSize)
			src.Read(blobs[i])
		}
		for n := uint64(0); pb.Next(); n++ {
			for _, blob := range blobs {
				blob[n%ChunkSize]++
			}
			if _, err := s.PutMany(context.Background(), blobs); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkImport imports a file of 1 GiB that is in the page cache, cut in each way.
func BenchmarkImport(b *testing.B) {
	dir := benchDir(b)
	const size = 1 << 30
	path := filepath.Join(dir, "file")
	writeRandomFile(b, path, size, 1)
	for _, chunker := range []Chunker{ChunkerRamp, ChunkerCDC} {
		b.Run(chunker.String(), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				store := filepath.Join(dir, "store")
				os.RemoveAll(store)
				s, err := Open(store, Config{Key: [32]byte{1}})
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := s.Import(context.Background(), path, ImportOptions{Chunker: chunker, ChunkerKey: [32]byte{1}}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkImportSmall imports 20,000 files of 4 KiB in 100 directories.
func BenchmarkImportSmall(b *testing.B) {
	dir := benchDir(b)
	const files = 20_000
	tree := filepath.Join(dir, "tree")
	src := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 4<<10)
	for i := range files {
		sub := filepath.Join(tree, strconv.Itoa(i%100))
		if i < 100 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		src.Read(buf)
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), buf, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		store := filepath.Join(dir, "store")
		os.RemoveAll(store)
		s, err := Open(store, Config{Key: [32]byte{1}})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := s.Import(context.Background(), tree, ImportOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
	b.ReportMetric(files*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkGet reads whole 256 KiB blobs at random from a store of 1 GiB that has copies, and from one that has them in place.
func BenchmarkGet(b *testing.B) {
	path := filepath.Join(benchDir(b), "file")
	writeRandomFile(b, path, 1<<30, 1)
	for name, inPlace := range map[string]bool{"copy": false, "in-place": true} {
		b.Run(name, func(b *testing.B) {
			s := openTest(b, filepath.Join(benchDir(b), "store"))
			if _, err := s.Import(context.Background(), path, ImportOptions{InPlace: inPlace}); err != nil {
				b.Fatal(err)
			}
			settle(b, s)
			benchmarkGet(b, s)
		})
	}
}

func benchmarkGet(b *testing.B, s *Store) {
	var hashes []stc.Hash
	for info, err := range s.All(context.Background()) {
		if err != nil {
			b.Fatal(err)
		}
		if info.Size == ChunkSize {
			hashes = append(hashes, info.Hash)
		}
	}
	b.SetBytes(ChunkSize)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var buf []byte
		for pb.Next() {
			var err error
			if buf, err = s.Get(buf[:0], hashes[rand.IntN(len(hashes))]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkImportAgain imports a file of 1 GiB that has not changed since the last import, once it has settled.
func BenchmarkImportAgain(b *testing.B) {
	dir := benchDir(b)
	const size = 1 << 30
	path := filepath.Join(dir, "file")
	writeRandomFile(b, path, size, 1)
	s := openTest(b, filepath.Join(dir, "store"))
	opts := ImportOptions{InPlace: true}
	age(b, s, path, opts)
	for b.Loop() {
		if got, err := s.Import(context.Background(), path, opts); err != nil || got.Unread != size {
			b.Fatalf("%d bytes were not read: %v", got.Unread, err)
		}
	}
}

func writeRandomFile(t testing.TB, path string, size int64, seed byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src := rand.NewChaCha8([32]byte{seed})
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		src.Read(buf)
		if _, err := f.Write(buf[:min(int64(len(buf)), size-off)]); err != nil {
			t.Fatal(err)
		}
	}
}
