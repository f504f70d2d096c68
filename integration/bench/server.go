package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How the processes find themselves: the first argument.
const (
	roleServer = "process-server"
	roleClient = "process-client"
	roleInside = "process-inside-netlab"
)

// A stream begins with one byte that says what the server is to do with it.
const (
	opSink byte = 'S' // length (8) follows, then as many bytes; answer one byte
	opEcho byte = 'E' // read to the end, then send it back
	opFlow byte = 'F' // read to the end and record when how much arrived
	opLive byte = 'L' // send liveRate until the stream is closed
	opCast byte = 'B' // send what the one source of the server has, until the stream is closed
	opHold byte = 'H' // answer one byte and keep the stream open
)

// usage is what a process has used up to now.
type usage struct {
	CPU      float64 `json:"cpu"`      // seconds, user and system
	RSS      int64   `json:"rss"`      // bytes resident, after a collection if asked for
	Sessions int64   `json:"sessions"` // that have been accepted
	Sent     int64   `json:"sent"`     // bytes of live streams
	Skipped  int64   `json:"skipped"`  // pieces that viewers of a broadcast have lost
}

func cpuSeconds() float64 {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

func residentBytes() int64 {
	var size, resident int64
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, _ = fmt.Sscan(string(b), &size, &resident)
	}
	return resident * int64(os.Getpagesize())
}

// server is the state of a server process.
type server struct {
	sessions atomic.Int64
	sent     atomic.Int64
	caster   caster
	mu       sync.Mutex
	flow     []sample
}

// sample is how many bytes of a flow had arrived by when.
type sample struct {
	At    int64 `json:"at"` // nanoseconds since 1970
	Bytes int64 `json:"bytes"`
}

// serve is the server process: `process-server SUBJECT ADDR`. It prints the
// address that it listens on and answers questions, one a line on stdin, by
// one line of JSON: "usage", "settle" (usage after a garbage collection),
// "flow". It ends with its stdin.
func serve(args []string) error {
	if len(args) != 2 {
		return errors.New("server process: SUBJECT ADDR")
	}
	sub, err := subjectByName(args[0])
	if err != nil {
		return err
	}
	l, err := sub.listen(args[1])
	if err != nil {
		return err
	}
	var s server
	go s.acceptAll(l)
	fmt.Println(l.addr())
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "settle":
			runtime.GC()
			debug.FreeOSMemory()
			fallthrough
		case "usage":
			err = out.Encode(usage{CPU: cpuSeconds(), RSS: residentBytes(), Sessions: s.sessions.Load(), Sent: s.sent.Load(), Skipped: int64(s.caster.live.Stats().Skipped)})
		case "flow":
			s.mu.Lock()
			err = out.Encode(s.flow)
			s.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *server) acceptAll(l listener) {
	for {
		c, err := l.accept(context.Background())
		if err != nil {
			if errors.Is(err, unix.EMFILE) {
				fmt.Fprintln(os.Stderr, "bench: server:", err)
				return
			}
			continue
		}
		s.sessions.Add(1)
		go func() {
			if _, single := c.(singleConn); single {
				st, _ := c.accept(context.Background())
				s.handle(st)
				return
			}
			for {
				st, err := c.accept(context.Background())
				if err != nil {
					return
				}
				go s.handle(st)
			}
		}()
	}
}

// ioBuffer is the size of the reads and writes of all subjects.
const ioBuffer = 256 << 10

var ioBuffers = sync.Pool{New: func() any { b := make([]byte, ioBuffer); return &b }}

func (s *server) handle(st stream) {
	hold := false
	defer func() {
		if !hold {
			st.close()
		}
	}()
	var head [9]byte
	if _, err := io.ReadFull(st, head[:1]); err != nil {
		return
	}
	switch head[0] {
	case opSink:
		// A connection of one stream gets one transfer after another.
		for {
			if _, err := io.ReadFull(st, head[1:]); err != nil {
				return
			}
			n := int64(binary.BigEndian.Uint64(head[1:]))
			buf := ioBuffers.Get().(*[]byte)
			for n > 0 {
				k, err := st.Read((*buf)[:min(n, ioBuffer)])
				n -= int64(k)
				if err != nil {
					return
				}
			}
			ioBuffers.Put(buf)
			if _, err := st.Write(head[:1]); err != nil {
				return
			}
		}
	case opEcho:
		b, err := io.ReadAll(st)
		if err != nil {
			return
		}
		_, _ = st.Write(b)
		_ = st.closeWrite()
	case opHold:
		// No goroutine stays: what is measured is the subject.
		_, _ = st.Write(head[:1])
		hold = true
	case opFlow:
		s.record(st)
	case opLive:
		s.live(st)
	case opCast:
		s.caster.once.Do(s.caster.begin)
		for p := range s.caster.live.Pieces(context.Background()) {
			if _, err := st.Write(p.Data); err != nil {
				return
			}
		}
	}
}

// record reads a flow and keeps what had arrived every 10 ms, at most.
func (s *server) record(st stream) {
	buf := ioBuffers.Get().(*[]byte)
	defer ioBuffers.Put(buf)
	var total int64
	var last time.Time
	for {
		n, err := st.Read(*buf)
		total += int64(n)
		if now := time.Now(); now.Sub(last) >= 10*time.Millisecond {
			last = now
			s.mu.Lock()
			s.flow = append(s.flow, sample{now.UnixNano(), total})
			s.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// A live stream is this many bytes, that often: 10 KB/s.
const (
	livePiece = 1000
	liveEvery = 100 * time.Millisecond
)

func (s *server) live(st stream) {
	p := make([]byte, livePiece)
	t := time.NewTicker(liveEvery)
	defer t.Stop()
	for range t.C {
		n, err := st.Write(p)
		s.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}
