package swarm

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// line is one direction of a test stream.
type line struct {
	rate   float64 // bytes per second, 0 for no limit
	delay  time.Duration
	buffer int // bytes under way before a writer has to wait

	shared *uplink // what lines of one host share, nil for a line of its own

	mu       sync.Mutex
	changed  sync.Cond
	segments []segment
	size     int
	busy     time.Time
	closed   bool // by the writer: what is under way still arrives
	broken   bool // by the reader, or torn: nothing more
	total    int64
	breakAt  int64 // the line tears when so many bytes have been written; 0 for never
}

// uplink is the sending side of a host.
type uplink struct {
	rate float64
	mu   sync.Mutex
	busy time.Time
	sent int64
}

// send returns when n bytes have left the host.
func (u *uplink) send(n int) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); u.busy.Before(now) {
		u.busy = now
	}
	u.busy = u.busy.Add(seconds(float64(n) / u.rate))
	u.sent += int64(n)
	return u.busy
}

type segment struct {
	data  []byte
	ready time.Time
}

func newLine(rate float64, delay time.Duration) *line {
	l := &line{rate: rate, delay: delay, buffer: 1 << 20}
	l.changed.L = &l.mu
	return l
}

// testConn is one end of a stream in memory with rate and delay, on the time
// of the synctest bubble.
type testConn struct {
	in, out                     *line
	readDeadline, writeDeadline testDeadline
}

type testDeadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *testDeadline) set(l *line, t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.at = t; !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), l.changed.Broadcast)
	}
	l.changed.Broadcast()
	return nil
}

func (d *testDeadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// newTestPipe returns both ends of a stream. Rate and delay are those of each
// direction.
func newTestPipe(rate float64, delay time.Duration) (a, b *testConn) {
	up, down := newLine(rate, delay), newLine(rate, delay)
	return &testConn{in: down, out: up}, &testConn{in: up, out: down}
}

func (c *testConn) Read(p []byte) (int, error) {
	l := c.in
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.broken:
			return 0, io.ErrClosedPipe
		case c.readDeadline.passed():
			return 0, os.ErrDeadlineExceeded
		case len(l.segments) > 0:
			s := &l.segments[0]
			if wait := time.Until(s.ready); wait > 0 {
				t := time.AfterFunc(wait, l.changed.Broadcast)
				l.changed.Wait()
				t.Stop()
				continue
			}
			n := copy(p, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				l.segments = l.segments[1:]
			}
			l.size -= n
			l.changed.Broadcast()
			return n, nil
		case l.closed:
			return 0, io.EOF
		}
		l.changed.Wait()
	}
}

func (c *testConn) Write(p []byte) (written int, err error) {
	l := c.out
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.broken || l.closed:
			return written, io.ErrClosedPipe
		case c.writeDeadline.passed():
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		case l.size >= l.buffer:
			l.changed.Wait()
			continue
		}
		n := min(len(p), l.buffer-l.size, 64<<10)
		if l.breakAt > 0 {
			n = min(n, int(l.breakAt-l.total))
		}
		now := time.Now()
		if l.busy.Before(now) {
			l.busy = now
		}
		if l.rate > 0 {
			l.busy = l.busy.Add(seconds(float64(n) / l.rate))
		}
		if l.shared != nil {
			l.busy = l.shared.send(n)
		}
		l.segments = append(l.segments, segment{bytes.Clone(p[:n]), l.busy.Add(l.delay)})
		l.size += n
		l.total += int64(n)
		written += n
		p = p[n:]
		if l.breakAt > 0 && l.total >= l.breakAt {
			l.closed = true
		}
		l.changed.Broadcast()
	}
}

func (c *testConn) Close() error {
	c.out.mu.Lock()
	c.out.closed = true
	c.out.changed.Broadcast()
	c.out.mu.Unlock()
	c.in.mu.Lock()
	c.in.broken = true
	c.in.changed.Broadcast()
	c.in.mu.Unlock()
	return nil
}

func (c *testConn) SetReadDeadline(t time.Time) error  { return c.readDeadline.set(c.in, t) }
func (c *testConn) SetWriteDeadline(t time.Time) error { return c.writeDeadline.set(c.out, t) }
func (c *testConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}
func (c *testConn) LocalAddr() net.Addr  { return nil }
func (c *testConn) RemoteAddr() net.Addr { return nil }
