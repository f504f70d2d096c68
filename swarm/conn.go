package swarm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// peerConn is the fetching side of one stream. Two goroutines belong to it:
// run dials and reads, write writes what the owner has queued. The owner is
// told everything by events, in order, the last of which is connGone.
type peerConn struct {
	candidate *candidate // the owner's
	dial      Dialer
	host      connHost
	cancel    context.CancelFunc // ends both goroutines
	received  atomic.Int64       // bytes of blobs, whole ones or not
	out       outbox

	// What follows belongs to the owner.
	id      peerID // of the scheduler; 0 before the stream is open
	have    bool   // the first HAVE has come
	whole   uint64 // bytes of blobs that have come whole
	batch   []byte // messages of one plan
	dropped bool   // the owner gave it up; nothing that still comes counts
}

// connHost is what the connections of a download share.
type connHost struct {
	d       *Download
	ctx     context.Context // of all streams
	events  chan<- event
	buffers *bufferPool
	// pipeline bounds the bytes of blobs between reading and storing. The
	// scheduler's budget keeps it from being exhausted by what was asked for;
	// it holds back peers that send something else.
	pipeline *semaphore.Weighted
}

// send tells the owner, unless it has stopped listening to streams.
func (h *connHost) send(e event) bool {
	select {
	case h.events <- e:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// Events of a connection.
type (
	connOpen struct{ conn *peerConn }
	connHave struct {
		conn     *peerConn
		spans    []span
		complete bool
	}
	connAnswers struct {
		conn    *peerConn
		answers []answer
	}
	connGone struct {
		conn *peerConn
		err  error
	}
)

// answer is BLOB, MISSING or CANCELLED.
type answer struct {
	kind    msgType
	request uint32
	blob    []byte // from the host's buffers, its length charged to the pipeline
}

// readBuffer is the size of the buffer in front of a stream: enough for many
// small messages a system call, and little to copy for a large one.
const readBuffer = 16 << 10

// More HAVE messages than a burst and so many a second are a flood; a server
// sends one in 100 ms, and several at once only when it has much to tell.
const (
	haveBurst = 200
	haveRate  = 50
)

// maxAnswers is how many small answers are handed over at once.
const maxAnswers = 64

func (c *peerConn) run(ctx context.Context) {
	err := c.dialAndRead(ctx)
	c.cancel()
	c.host.send(connGone{c, err})
}

func (c *peerConn) dialAndRead(ctx context.Context) error {
	timeout := c.host.d.cfg.DialTimeout
	dialCtx, cancel := context.WithTimeout(ctx, timeout)
	conn, err := c.dial(dialCtx)
	cancel()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	// Closing the stream is what unblocks its reader and its writer.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	var writer sync.WaitGroup
	defer func() {
		if stop() {
			conn.Close()
		}
		c.out.close()
		writer.Wait()
	}()
	c.out.put(appendOpen(nil, c.host.d.cfg.Root))
	if !c.host.send(connOpen{c}) {
		return nil
	}
	writer.Go(func() {
		if err := c.out.drain(conn); err != nil {
			c.cancel()
		}
	})
	return c.read(bufio.NewReaderSize(conn, readBuffer))
}

// read handles messages until the stream ends.
func (c *peerConn) read(br *bufio.Reader) error {
	var answers []answer
	started, haves := time.Now(), 0
	for {
		if len(answers) > 0 && (len(answers) >= maxAnswers || !buffered(br)) {
			if !c.host.send(connAnswers{c, answers}) {
				return nil
			}
			answers = nil
		}
		head, err := br.Peek(headerSize)
		if err != nil {
			if err == io.EOF && len(head) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		t, n, err := parseHeader(head)
		if err != nil {
			return err
		}
		br.Discard(headerSize)
		switch t {
		case msgBlob, msgMissing, msgCancelled:
			a, err := c.readAnswer(br, t, n)
			if err != nil {
				return err
			}
			answers = append(answers, a)
		case msgHave, msgClose:
			body := make([]byte, n)
			if _, err := io.ReadFull(br, body); err != nil {
				return unexpected(err)
			}
			if t == msgClose {
				return fmt.Errorf("%w: %v", ErrClosed, closeReason(body[0]))
			}
			spans, complete, err := parseHave(nil, body)
			if err != nil {
				return err
			}
			// Each costs the owner a walk through the window.
			if haves++; haves > haveBurst+int(haveRate*time.Since(started).Seconds()) {
				return fmt.Errorf("%w: flood of HAVE", ErrProtocol)
			}
			if !c.host.send(connHave{c, spans, complete}) {
				return nil
			}
		default:
			return fmt.Errorf("%w: %v from the serving side", ErrProtocol, t)
		}
	}
}

// buffered reports whether the next message is in the buffer as a whole, so
// that reading it does not wait.
func buffered(br *bufio.Reader) bool {
	if br.Buffered() < headerSize {
		return false
	}
	head, err := br.Peek(headerSize)
	if err != nil {
		return false
	}
	_, n, err := parseHeader(head)
	return err != nil || br.Buffered() >= headerSize+n
}

func (c *peerConn) readAnswer(br *bufio.Reader, t msgType, n int) (answer, error) {
	var id [requestLen]byte
	if _, err := io.ReadFull(br, id[:]); err != nil {
		return answer{}, unexpected(err)
	}
	a := answer{kind: t, request: parseRequest(id[:])}
	if t != msgBlob {
		return a, nil
	}
	// The blob is charged to the pipeline only when it is here: a peer that
	// dribbles must not occupy room that others need.
	a.blob = c.host.buffers.get(n - requestLen)
	if _, err := io.ReadFull(&countingReader{br, &c.received}, a.blob); err != nil {
		c.host.buffers.put(a.blob)
		return answer{}, unexpected(err)
	}
	return a, c.host.charge(len(a.blob))
}

// charge waits until the pipeline has room. It fails when the owner has gone.
func (h *connHost) charge(n int) error { return h.pipeline.Acquire(h.ctx, int64(n)) }

// release gives a blob's buffer and its room in the pipeline back.
func (h *connHost) release(blob []byte) {
	h.pipeline.Release(int64(len(blob)))
	h.buffers.put(blob)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// countingReader counts what comes through.
type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// outbox holds small messages until the writer sends them, many at once. The
// side that puts never waits; it keeps the box bounded by never having more
// than maxOpenRequests requests unanswered.
type outbox struct {
	mu     sync.Mutex
	ready  sync.Cond // lazily bound to mu
	queued []byte
	closed bool
}

// put copies messages into the box.
func (o *outbox) put(messages []byte) {
	o.mu.Lock()
	if !o.closed {
		o.queued = append(o.queued, messages...)
	}
	o.mu.Unlock()
	o.ready.Signal()
}

func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.ready.Signal()
}

// drain writes to w until the box is closed or a write fails.
func (o *outbox) drain(w io.Writer) error {
	var spare []byte
	for {
		o.mu.Lock()
		for len(o.queued) == 0 && !o.closed {
			o.ready.Wait()
		}
		if o.closed {
			o.mu.Unlock()
			return nil
		}
		b := o.queued
		o.queued = spare[:0]
		o.mu.Unlock()
		if _, err := w.Write(b); err != nil {
			return err
		}
		spare = b
	}
}
