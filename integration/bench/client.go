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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// result is what a client process has measured. Which fields count depends
// on what it was asked to do.
type result struct {
	Seconds  float64 `json:"seconds,omitempty"`
	CPU      float64 `json:"cpu,omitempty"` // of the client
	Bytes    int64   `json:"bytes,omitempty"`
	Count    int64   `json:"count,omitempty"`
	Lost     int64   `json:"lost,omitempty"`
	Machine  float64 `json:"machine,omitempty"` // CPU seconds of all that runs
	P50      float64 `json:"p50,omitempty"`     // microseconds
	P99      float64 `json:"p99,omitempty"`
	FlowFrom int64   `json:"flow_from,omitempty"` // nanoseconds since 1970
}

// Sizes of what the cases move. Large enough that a run takes about a second
// here, small enough that five runs of all subjects take a few minutes.
const (
	bulkWarmUp   = 128 << 20
	bulkBytes    = 768 << 20
	requestBytes = 100
	requests     = 4000
	requestsWarm = 500
	handshakeFor = 2 * time.Second
	idleSessions = 1000
	liveSessions = 5000
	liveFor      = 10 * time.Second
)

// client is the state of a client process.
type client struct {
	sub   subject
	addr  string
	ctx   context.Context
	in    *bufio.Reader
	begun time.Time
	cpu   float64
}

// drive is the client process: `process-client SUBJECT TASK ADDR`. It prints
// "mark" before and behind what is measured, and waits each time for a line
// on stdin; then one line of JSON.
func drive(args []string) error {
	if len(args) != 3 {
		return errors.New("client process: SUBJECT TASK ADDR")
	}
	sub, err := subjectByName(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c := &client{sub: sub, addr: args[2], ctx: ctx, in: bufio.NewReader(os.Stdin)}
	name, param, _ := strings.Cut(args[1], ":")
	task, ok := tasks[name]
	if !ok {
		return fmt.Errorf("no task %q", name)
	}
	r, err := task(c, param)
	if err != nil {
		return fmt.Errorf("%s %s: %w", args[0], args[1], err)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

var tasks = map[string]func(*client, string) (result, error){
	"bulk": (*client).bulk, "request": (*client).request, "handshake": (*client).handshake,
	"idle": (*client).idle, "live": (*client).live, "flow": (*client).flow,
	"broadcast": (*client).broadcast,
}

// mark tells the parent that the measured part begins or ends.
func (c *client) mark() error {
	fmt.Println("mark")
	_, err := c.in.ReadString('\n')
	return err
}

func (c *client) begin() error {
	err := c.mark()
	c.cpu, c.begun = cpuSeconds(), time.Now()
	return err
}

func (c *client) end() (result, error) {
	r := result{Seconds: time.Since(c.begun).Seconds(), CPU: cpuSeconds() - c.cpu}
	return r, c.mark()
}

func (c *client) connect() (conn, error) {
	d, err := c.sub.dialer()
	if err != nil {
		return nil, err
	}
	return d.dial(c.ctx, c.addr)
}

// bulk sends bulkBytes over as many streams as param says, after a warm-up
// over the same streams.
func (c *client) bulk(param string) (result, error) {
	var n int
	if _, err := fmt.Sscan(param, &n); err != nil {
		return result{}, err
	}
	session, err := c.connect()
	if err != nil {
		return result{}, err
	}
	defer session.close()
	streams := make([]stream, n)
	for i := range streams {
		if streams[i], err = session.open(c.ctx); err != nil {
			return result{}, err
		}
		if _, err := streams[i].Write([]byte{opSink}); err != nil {
			return result{}, err
		}
	}
	transfer := func(total int) error {
		errs := make(chan error, n)
		for _, st := range streams {
			go func() { errs <- sink(st, total/n) }()
		}
		var failed error
		for range n {
			failed = errors.Join(failed, <-errs)
		}
		return failed
	}
	if err := transfer(bulkWarmUp); err != nil {
		return result{}, err
	}
	if err := c.begin(); err != nil {
		return result{}, err
	}
	if err := transfer(bulkBytes); err != nil {
		return result{}, err
	}
	r, err := c.end()
	r.Bytes = bulkBytes
	return r, err
}

// sink sends n bytes and waits until all have been read.
func sink(st stream, n int) error {
	head := binary.BigEndian.AppendUint64(nil, uint64(n))
	if _, err := st.Write(head); err != nil {
		return err
	}
	buf := make([]byte, ioBuffer)
	for n > 0 {
		k, err := st.Write(buf[:min(n, len(buf))])
		n -= k
		if err != nil {
			return err
		}
	}
	_, err := io.ReadFull(st, buf[:1])
	return err
}

// request sends small requests one after another, each on a new stream.
func (c *client) request(string) (result, error) {
	session, err := c.connect()
	if err != nil {
		return result{}, err
	}
	defer session.close()
	msg := make([]byte, 1+requestBytes)
	msg[0] = opEcho
	answer := make([]byte, requestBytes+1)
	once := func() error {
		st, err := session.open(c.ctx)
		if err != nil {
			return err
		}
		defer st.close()
		if _, err := st.Write(msg); err != nil {
			return err
		}
		if err := st.closeWrite(); err != nil {
			return err
		}
		n, err := io.ReadFull(st, answer)
		if err != io.ErrUnexpectedEOF || n != requestBytes {
			return fmt.Errorf("answer of %d bytes: %w", n, err)
		}
		return nil
	}
	for range requestsWarm {
		if err := once(); err != nil {
			return result{}, err
		}
	}
	if err := c.begin(); err != nil {
		return result{}, err
	}
	times := make([]float64, requests)
	for i := range times {
		begin := time.Now()
		if err := once(); err != nil {
			return result{}, err
		}
		times[i] = float64(time.Since(begin)) / 1e3
	}
	r, err := c.end()
	slices.Sort(times)
	r.Count, r.P50, r.P99 = requests, times[requests/2], times[requests*99/100]
	return r, err
}

// handshake makes sessions, eight at once, and ends each at once.
func (c *client) handshake(string) (result, error) {
	const workers = 8
	dialers := make([]dialer, workers)
	for i := range dialers {
		var err error
		if dialers[i], err = c.sub.dialer(); err != nil {
			return result{}, err
		}
	}
	var made atomic.Int64
	round := func(d time.Duration) error {
		stop := time.Now().Add(d)
		errs := make(chan error, workers)
		for _, d := range dialers {
			go func() {
				for time.Now().Before(stop) {
					s, err := d.dial(c.ctx, c.addr)
					if err != nil {
						errs <- err
						return
					}
					made.Add(1)
					s.close()
				}
				errs <- nil
			}()
		}
		var failed error
		for range workers {
			failed = errors.Join(failed, <-errs)
		}
		return failed
	}
	if err := round(handshakeFor / 4); err != nil {
		return result{}, err
	}
	made.Store(0)
	if err := c.begin(); err != nil {
		return result{}, err
	}
	if err := round(handshakeFor); err != nil {
		return result{}, err
	}
	r, err := c.end()
	r.Count = made.Load()
	return r, err
}

// sessions makes n sessions, some at a time, and opens a stream on each that
// begins with op. They share so many dialers.
func (c *client) sessions(n, dialers int, op byte) ([]conn, []stream, error) {
	from := make([]dialer, dialers)
	for i := range from {
		var err error
		if from[i], err = c.sub.dialer(); err != nil {
			return nil, nil, err
		}
	}
	conns, streams := make([]conn, n), make([]stream, n)
	var next atomic.Int64
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					errs <- nil
					return
				}
				s, err := from[i%dialers].dial(c.ctx, c.addr)
				if err == nil {
					conns[i] = s
					if streams[i], err = s.open(c.ctx); err == nil {
						_, err = streams[i].Write([]byte{op})
					}
				}
				if err != nil {
					errs <- fmt.Errorf("session %d: %w", i, err)
					return
				}
			}
		}()
	}
	var failed error
	for range cap(errs) {
		failed = errors.Join(failed, <-errs)
	}
	return conns, streams, failed
}

// idle holds sessions with one open stream each, over which one byte went
// each way.
func (c *client) idle(string) (result, error) {
	if err := c.begin(); err != nil {
		return result{}, err
	}
	_, streams, err := c.sessions(idleSessions, 1, opHold)
	if err != nil {
		return result{}, err
	}
	for _, st := range streams {
		if _, err := io.ReadFull(st, make([]byte, 1)); err != nil {
			return result{}, err
		}
	}
	time.Sleep(time.Second) // the last acknowledgements
	r, err := c.end()
	r.Count = idleSessions
	return r, err
}

// live reads a live stream on each of many sessions.
func (c *client) live(string) (result, error) {
	_, streams, err := c.sessions(liveSessions, 1, opLive)
	if err != nil {
		return result{}, err
	}
	var received atomic.Int64
	var readers sync.WaitGroup
	for _, st := range streams {
		readers.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := st.Read(buf)
				received.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	time.Sleep(time.Second)
	if err := c.begin(); err != nil {
		return result{}, err
	}
	before := received.Load()
	time.Sleep(liveFor)
	n := received.Load() - before
	r, err := c.end()
	r.Count, r.Bytes = liveSessions, n
	return r, err
}

// flow writes to one stream for the duration that param gives.
func (c *client) flow(param string) (result, error) {
	d, err := time.ParseDuration(param)
	if err != nil {
		return result{}, err
	}
	session, err := c.connect()
	if err != nil {
		return result{}, err
	}
	st, err := session.open(c.ctx)
	if err != nil {
		return result{}, err
	}
	if err := c.begin(); err != nil {
		return result{}, err
	}
	from := time.Now()
	stop := from.Add(d)
	buf := make([]byte, 64<<10)
	buf[0] = opFlow
	for time.Now().Before(stop) {
		if _, err := st.Write(buf); err != nil {
			return result{}, err
		}
	}
	r, err := c.end()
	r.FlowFrom = from.UnixNano()
	return r, err
}
