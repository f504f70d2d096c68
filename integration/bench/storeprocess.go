package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/stc"
)

// roleStore is the first argument of a process that runs one of storeTasks.
const roleStore = "process-store"

var storeKey = content.Config{Key: [32]byte{1}}

// storeProcess is that process.
func storeProcess(args []string) error {
	if len(args) < 2 || storeTasks[args[0]] == nil {
		return fmt.Errorf("store process: TASK DIR ARG…, with TASK of %v", storeTaskNames())
	}
	m, err := storeTasks[args[0]](args[1], args[2:])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	m.Peak = peakBytes()
	return json.NewEncoder(os.Stdout).Encode(m)
}

// peakBytes returns how much memory this process has had resident at most.
func peakBytes() (kilobytes int64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes)
	}
	return kilobytes << 10
}

// timed measures f.
func timed(f func() error) (storeRun, error) {
	begin, cpu := time.Now(), cpuSeconds()
	err := f()
	return storeRun{Seconds: time.Since(begin).Seconds(), CPU: cpuSeconds() - cpu}, err
}

// withStore runs f with the store in dir open.
func withStore(dir string, f func(*content.Store) (storeRun, error)) (storeRun, error) {
	s, err := content.Open(dir, storeKey)
	if err != nil {
		return storeRun{}, err
	}
	m, err := f(s)
	return m, errors.Join(err, s.Close())
}

func taskImport(dir string, args []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		return timed(func() error {
			_, err := s.Import(context.Background(), args[0], content.ImportOptions{InPlace: len(args) > 1})
			return err
		})
	})
}

func taskImportAndRead(dir string, args []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		ctx := context.Background()
		if _, err := s.Import(ctx, args[0], content.ImportOptions{InPlace: len(args) > 1}); err != nil {
			return storeRun{}, err
		}
		hashes, err := chunksOf(s)
		if err != nil {
			return storeRun{}, err
		}
		if _, err = readAll(hashes[:min(len(hashes), 4096)], func(buf []byte, h stc.Hash) ([]byte, error) { return s.Get(buf, h) }); err != nil {
			return storeRun{}, err
		}
		_, err = s.GC(ctx, true)
		return storeRun{}, err
	})
}

// eachUnit calls do with four chunks of a file at a time, from as many goroutines as an import has.
func eachUnit(path string, do func(hashes []stc.Hash, chunks [][]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const unit = 4
	var next atomic.Int64
	var workers errgroup.Group
	for range runtime.GOMAXPROCS(0) + 1 {
		workers.Go(func() error {
			buf := make([]byte, unit*storeChunk)
			hashes := make([]stc.Hash, unit)
			for {
				n, err := f.ReadAt(buf, (next.Add(1)-1)*int64(len(buf)))
				if n == 0 && err == io.EOF {
					return nil
				}
				if err != nil && err != io.EOF {
					return err
				}
				chunks := slices.Collect(slices.Chunk(buf[:n], storeChunk))
				stc.SumMany(hashes[:len(chunks)], chunks)
				if err := do(hashes[:len(chunks)], chunks); err != nil {
					return err
				}
			}
		})
	}
	return workers.Wait()
}

// plainPath is where a blob lies that is a plain file, one of 256 directories as everybody has them who stores blobs so.
func plainPath(dir string, h stc.Hash) string {
	name := hex.EncodeToString(h[:])
	return filepath.Join(dir, name[:2], name)
}

func makePlain(dir string) error {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func writePlain(dir string, h stc.Hash, blob []byte) error {
	f, err := os.Create(plainPath(dir, h))
	if err != nil {
		return err
	}
	_, err = f.Write(blob)
	return errors.Join(err, f.Sync(), f.Close())
}

func taskImportFiles(dir string, args []string) (storeRun, error) {
	if err := makePlain(dir); err != nil {
		return storeRun{}, err
	}
	return timed(func() error {
		err := eachUnit(args[0], func(hashes []stc.Hash, chunks [][]byte) error {
			for i, h := range hashes {
				if err := writePlain(dir, h, chunks[i]); err != nil {
					return err
				}
			}
			return nil
		})
		return errors.Join(err, syncFS(dir))
	})
}

// chunksOf lists the whole chunks of a store in random order.
func chunksOf(s *content.Store) ([]stc.Hash, error) {
	var hashes []stc.Hash
	for info, err := range s.All(context.Background()) {
		if err != nil {
			return nil, err
		}
		if info.Size == storeChunk {
			hashes = append(hashes, info.Hash)
		}
	}
	rand.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	return hashes, nil
}

func plainChunks(dir string) ([]stc.Hash, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "??", "*"))
	hashes := make([]stc.Hash, len(paths))
	for i, p := range paths {
		if _, herr := hex.Decode(hashes[i][:], []byte(filepath.Base(p))); herr != nil {
			err = errors.Join(err, herr)
		}
	}
	rand.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	return hashes, err
}

// readAll reads each blob once, from as many goroutines as there are CPUs.
func readAll(hashes []stc.Hash, get func(buf []byte, h stc.Hash) ([]byte, error)) (storeRun, error) {
	var next, read atomic.Int64
	m, err := timed(func() error {
		var readers errgroup.Group
		for range runtime.GOMAXPROCS(0) {
			readers.Go(func() error {
				buf := make([]byte, 0, storeChunk)
				for {
					i := int(next.Add(1) - 1)
					if i >= len(hashes) {
						return nil
					}
					var err error
					if buf, err = get(buf[:0], hashes[i]); err != nil {
						return err
					}
					read.Add(int64(len(buf)))
				}
			})
		}
		return readers.Wait()
	})
	m.Bytes = read.Load()
	return m, err
}

// readTwice reads everything, and if the case is about warm reads once more.
func readTwice(warm bool, hashes []stc.Hash, get func(buf []byte, h stc.Hash) ([]byte, error)) (storeRun, error) {
	m, err := readAll(hashes, get)
	if err == nil && warm {
		m, err = readAll(hashes, get)
	}
	return m, err
}

func taskRead(dir string, args []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		hashes, err := chunksOf(s)
		if err != nil {
			return storeRun{}, err
		}
		return readTwice(len(args) > 0, hashes, s.Get)
	})
}

func readPlain(dir string) func(buf []byte, h stc.Hash) ([]byte, error) {
	return func(buf []byte, h stc.Hash) ([]byte, error) {
		f, err := os.Open(plainPath(dir, h))
		if err != nil {
			return buf, err
		}
		defer f.Close()
		n, err := f.Read(buf[:storeChunk])
		return buf[:n], err
	}
}

func taskReadFiles(dir string, args []string) (storeRun, error) {
	hashes, err := plainChunks(dir)
	if err != nil {
		return storeRun{}, err
	}
	return readTwice(len(args) > 0, hashes, readPlain(dir))
}

func taskOpen(dir string, _ []string) (storeRun, error) {
	var s *content.Store
	m, err := timed(func() (err error) {
		s, err = content.Open(dir, storeKey)
		return err
	})
	if err == nil {
		err = s.Close()
	}
	return m, err
}

// taskWrite stores blobs of all sizes until somebody kills it.
func taskWrite(dir string, _ []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		var stored atomic.Int64
		var writers errgroup.Group
		src := randomBytes()
		seed := make([]byte, 1<<20)
		_, _ = src.Read(seed)
		for w := range 4 {
			writers.Go(func() error {
				blobs := make([][]byte, 8)
				for i := range blobs {
					blobs[i] = bytes.Clone(seed[:[]int{storeChunk, 4 << 10, 1 << 10, 1 << 20}[i%4]])
					blobs[i][0] ^= byte(w)
				}
				for n := uint64(1); ; n++ {
					for i, blob := range blobs {
						for k := range 8 {
							blob[1+k] = byte(n>>(8*k)) ^ byte(i)
						}
					}
					if _, err := s.PutMany(context.Background(), blobs); err != nil {
						return err
					}
					if stored.Add(1) == 100 {
						fmt.Println("mark")
					}
				}
			})
		}
		return storeRun{}, writers.Wait()
	})
}

// A store to be collected holds this many contents of this many chunks.
const (
	collectContents = 1024
	collectChunks   = 4
)

// eachContent calls do with the bytes of the contents of a store to be collected.
func eachContent(do func(i int, data []byte) error) error {
	src := randomBytes()
	data := make([]byte, collectChunks*storeChunk)
	for i := range collectContents {
		_, _ = src.Read(data)
		if err := do(i, data); err != nil {
			return err
		}
	}
	return nil
}

func taskFill(dir string, _ []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		return storeRun{}, eachContent(func(i int, data []byte) error {
			_, err := s.ImportReader(context.Background(), bytes.NewReader(data), content.ImportOptions{Name: fmt.Sprint(i)})
			return err
		})
	})
}

func taskFillFiles(dir string, _ []string) (storeRun, error) {
	if err := makePlain(dir); err != nil {
		return storeRun{}, err
	}
	return storeRun{}, eachContent(func(_ int, data []byte) error {
		for chunk := range slices.Chunk(data, storeChunk) {
			if err := writePlain(dir, stc.Sum(chunk), chunk); err != nil {
				return err
			}
		}
		return nil
	})
}

// besideReader measures f while one reader reads blobs at random, and how long that one waits.
func besideReader(keep []stc.Hash, get func(buf []byte, h stc.Hash) ([]byte, error), f func() error) (storeRun, error) {
	stop := make(chan struct{})
	var waits []float64
	var reader errgroup.Group
	reader.Go(func() error {
		buf := make([]byte, 0, storeChunk)
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			begin := time.Now()
			if _, err := get(buf, keep[rand.IntN(len(keep))]); err != nil {
				return err
			}
			waits = append(waits, float64(time.Since(begin))/1e6)
		}
	})
	m, err := timed(f)
	close(stop)
	err = errors.Join(err, reader.Wait())
	slices.Sort(waits)
	if len(waits) > 0 {
		m.P999 = waits[len(waits)*999/1000]
	}
	m.Count = int64(len(waits))
	return m, err
}

func taskCollect(dir string, _ []string) (storeRun, error) {
	return withStore(dir, func(s *content.Store) (storeRun, error) {
		ctx := context.Background()
		pins, err := s.Pins()
		if err != nil {
			return storeRun{}, err
		}
		rand.Shuffle(len(pins), func(i, j int) { pins[i], pins[j] = pins[j], pins[i] })
		var keep []stc.Hash
		for _, p := range pins[len(pins)/2:] {
			root, err := s.Get(nil, p.Root)
			if err != nil {
				return storeRun{}, err
			}
			node, err := content.DecodeRoot(root)
			if err != nil {
				return storeRun{}, err
			}
			for i := range node.Len() {
				keep = append(keep, node.Child(i).Hash)
			}
		}
		return besideReader(keep, s.Get, func() error {
			for _, p := range pins[:len(pins)/2] {
				if err := s.Unpin(ctx, p.Root); err != nil {
					return err
				}
			}
			_, err := s.GC(ctx, false)
			return err
		})
	})
}

func taskCollectFiles(dir string, _ []string) (storeRun, error) {
	hashes, err := plainChunks(dir)
	if err != nil {
		return storeRun{}, err
	}
	half := len(hashes) / 2
	m, err := besideReader(hashes[half:], readPlain(dir), func() error {
		for _, h := range hashes[:half] {
			if err := os.Remove(plainPath(dir, h)); err != nil {
				return err
			}
		}
		return syncFS(dir)
	})
	return m, err
}
