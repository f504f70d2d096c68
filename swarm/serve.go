package swarm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seigr/sttnode/stc"
)

// serverStream is one stream being served. Three goroutines belong to it:
//
//	serve   reads messages and queues requests
//	fetch   takes requests, reads blobs into batches, one ahead of write
//	write   writes batches, HAVE and CANCELLED
//
// The first that fails ends the others.
type serverStream struct {
	server  *Server
	conn    net.Conn
	peer    *servedPeer
	follow  *follower
	end     context.CancelCauseFunc // ends the stream
	begun   time.Time               // constant
	ending  bool                    // it makes room for others; guarded by the server's mu
	writing atomic.Bool             // something is being written
	limited atomic.Bool             // the writer waits for the Limiter
	reading atomic.Uint32           // the Limit that fetch waits for

	queue   requestQueue
	tail    *tail // of the FOLLOW that fetch is at; only fetch uses it
	batches chan *batch
	quick   atomic.Bool   // the last batch did not take long
	written atomic.Int64  // batches
	done    chan struct{} // holds a token when one more has been written
	say     chan struct{} // a token: cancels has something to say

	mu        sync.Mutex
	cancelled []byte // CANCELLED messages to be written; guarded by mu
}

// batch is a piece of what is written: any number of answers whose blobs were
// read straight into it, and perhaps one blob that belongs to the cache.
type batch struct {
	buf    []byte
	room   int64 // what is charged for it
	taken  time.Time
	cached *cachedBlob // behind buf
	last   stc.Hash    // of the blob that it ends with,
	lastAt int         // which begins there; all of it if it ends with none
	blobs  int
	bytes  int
}

const (
	// batchFlush is the length from which a batch is not filled further.
	batchFlush = 64 << 10
	// batchSize is the room of a batch: one chunk behind a batch that was
	// just not full.
	batchSize = 512 << 10
	// batchSizeLarge is the same for blobs up to the limit of 1 MiB.
	batchSizeLarge = 2 << 20
)

// errStreamEnd is how a stream ends when nothing is wrong.
var errStreamEnd = errors.New("stream ended by peer")

// serve answers the stream from its first message on.
func (st *serverStream) serve(ctx context.Context, peer stc.Hash) error {
	s, conn := st.server, st.conn
	br := bufio.NewReaderSize(conn, 4<<10)
	conn.SetReadDeadline(time.Now().Add(s.cfg.OpenTimeout))
	// When ctx ends, what is blocked on the stream must come back.
	stopWatch := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stopWatch()
	root, err := readOpen(br)
	if err != nil {
		switch cause := context.Cause(ctx); {
		case errors.Is(err, ErrProtocol):
			sayClose(conn, closeMalformed)
		case errors.Is(cause, ErrBusy):
			sayClose(conn, closeBusy)
			return cause
		}
		return err
	}
	if stopWatch() {
		conn.SetReadDeadline(time.Time{})
	}
	f, unfollow, ok := s.follow(root, peer)
	if !ok {
		sayClose(conn, closeNotFound)
		return nil
	}
	defer unfollow()
	s.store.Use(root)
	defer s.store.Use(root)

	st.follow = f
	return st.run(ctx, br)
}

func readOpen(br *bufio.Reader) (root stc.Hash, err error) {
	var b [headerSize + stc.HashSize]byte
	if _, err := io.ReadFull(br, b[:headerSize]); err != nil {
		return root, err
	}
	t, _, err := parseHeader(b[:headerSize])
	if err != nil {
		return root, err
	}
	if t != msgOpen {
		return root, fmt.Errorf("%w: %v before OPEN", ErrProtocol, t)
	}
	_, err = io.ReadFull(br, b[headerSize:])
	return stc.Hash(b[headerSize:]), unexpected(err)
}

// run serves the stream behind OPEN.
func (st *serverStream) run(outer context.Context, br *bufio.Reader) error {
	ctx, end := context.WithCancelCause(outer)
	// A moment to say CLOSE, then everything that is blocked comes back.
	stop := context.AfterFunc(ctx, func() {
		st.conn.SetReadDeadline(time.Unix(1, 0))
		st.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		st.queue.close()
	})
	defer stop()
	st.queue.init()
	var wg sync.WaitGroup
	wg.Go(func() { end(st.fetch(ctx)) })
	wg.Go(func() { end(st.write(ctx)) })
	end(st.read(br))
	wg.Wait()
	switch err := context.Cause(ctx); {
	case errors.Is(err, errStreamEnd):
		return nil
	case errors.Is(err, ErrProtocol):
		sayClose(st.conn, closeMalformed)
		return err
	case errors.Is(err, ErrBusy):
		sayClose(st.conn, closeBusy)
		return err
	case outer.Err() != nil:
		sayClose(st.conn, closeGoingAway)
		return err
	default:
		return err
	}
}

// read queues requests until the stream ends.
func (st *serverStream) read(br *bufio.Reader) error {
	for {
		head, err := br.Peek(headerSize)
		if err == io.EOF && len(head) == 0 {
			return errStreamEnd
		}
		if err != nil {
			return unexpected(err)
		}
		t, n, err := parseHeader(head)
		if err != nil {
			return err
		}
		if t != msgWant && t != msgFollow && t != msgCancel {
			return fmt.Errorf("%w: %v from the fetching side", ErrProtocol, t)
		}
		message, err := br.Peek(headerSize + n)
		if err != nil {
			return unexpected(err)
		}
		if t != msgCancel {
			st.server.requests.Add(1)
			if !st.queue.push(parseOpenRequest(t, message[headerSize:])) {
				return nil
			}
		} else if id := parseRequest(message[headerSize:]); st.queue.cancel(id) {
			st.server.cancelled.Add(1)
			st.mu.Lock()
			st.cancelled = appendRequest(st.cancelled, msgCancelled, id)
			st.mu.Unlock()
			select {
			case st.say <- struct{}{}:
			default:
			}
		}
		br.Discard(headerSize + n)
	}
}

// fetch reads the blobs that are asked for, ahead of the writer by one batch.
func (st *serverStream) fetch(ctx context.Context) error {
	room := batchSize
	for handed := int64(0); ; handed++ {
		st.reading.Store(uint32(LimitPeer))
		if !st.awaitWritten(ctx, handed) {
			return ctx.Err()
		}
		req, ok := st.pop(true)
		if !ok {
			return nil
		}
		st.reading.Store(uint32(LimitMemory))
		if err := st.server.ahead.take(ctx, st.peer, int64(room)); err != nil {
			return err
		}
		b := &batch{buf: st.server.buffers.get(room)[:0], room: int64(room), taken: time.Now()}
		taken := false
		st.reading.Store(uint32(LimitDisk))
		for ok && !taken {
			if err := st.answer(ctx, b, req); err != nil {
				st.server.free(st.peer, b, false)
				return err
			}
			if cap(b.buf) > batchSize {
				room = batchSizeLarge
			}
			if b.cached != nil || len(b.buf) >= batchFlush {
				break
			}
			// A writer with nothing to do takes what there is.
			select {
			case st.batches <- b:
				taken = true
			default:
				req, ok = st.pop(false)
			}
		}
		if taken {
			continue
		}
		select {
		case st.batches <- b:
		case <-ctx.Done():
			st.server.free(st.peer, b, false)
			return ctx.Err()
		}
	}
}

// answer appends the answer to a request to the batch.
func (st *serverStream) answer(ctx context.Context, b *batch, req openRequest) error {
	s := st.server
	if req.ends {
		b.say(msgCancelled, req.id)
		return nil
	}
	if s.cache != nil {
		if hit := s.cache.get(req.hash); hit != nil {
			s.cacheHits.Add(1)
			if !st.answered(req, hit.data) {
				s.cache.release(hit)
				b.say(msgCancelled, req.id)
				return nil
			}
			b.blobs++
			b.bytes += len(hit.data)
			b.buf = appendBlobHeader(b.buf, req.id, len(hit.data))
			b.last, b.lastAt = req.hash, len(b.buf)
			if len(hit.data) < batchFlush {
				b.buf = append(b.buf, hit.data...)
				s.cache.release(hit)
			} else {
				b.cached = hit
			}
			return nil
		}
	}
	start := len(b.buf)
	out, err := s.read(ctx, st.peer, appendBlobHeader(b.buf, req.id, 0), req.hash)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if !st.answered(req, nil) {
			b.say(msgCancelled, req.id)
			return nil
		}
		s.missing.Add(1)
		b.say(msgMissing, req.id)
		return nil
	}
	if cap(out) != cap(b.buf) {
		s.buffers.put(b.buf)
	}
	blob := out[start+blobHeaderSize:]
	if b.buf = out; !st.answered(req, blob) {
		b.buf = out[:start]
		b.say(msgCancelled, req.id)
		return nil
	}
	b.last, b.lastAt = req.hash, start+blobHeaderSize
	appendBlobHeader(out[:start], req.id, len(blob))
	b.blobs++
	b.bytes += len(blob)
	if s.cache != nil {
		s.cache.offer(req.hash, blob)
	}
	return nil
}

// say appends an answer without a blob.
func (b *batch) say(t msgType, request uint32) {
	b.buf = appendRequest(b.buf, t, request)
	b.lastAt = len(b.buf)
}

// free gives back what a batch holds, which is parked or done with.
func (s *Server) free(p *servedPeer, b *batch, parked bool) {
	if b.cached != nil {
		s.cache.release(b.cached)
	}
	s.buffers.put(b.buf)
	s.ahead.give(p, b.room, time.Since(b.taken), parked)
}

// write writes everything that goes out on the stream, HAVE first.
func (st *serverStream) write(ctx context.Context) error {
	interval := st.server.cfg.HaveInterval
	var due <-chan time.Time
	var spare []byte
	unsaid := 0 // CANCELLED messages in small
	spans, complete := st.follow.take()
	small := appendHave(nil, spans)
	if complete {
		small = appendHaveComplete(nil)
	}
	last := time.Now()
	for {
		if len(small) > 0 {
			if err := st.put(ctx, small); err != nil {
				return err
			}
			st.queue.said(unsaid)
			small, unsaid = small[:0], 0
		}
		changed := st.follow.changed
		if complete || due != nil {
			changed = nil
		}
		select {
		case b := <-st.batches:
			err := st.putBatch(ctx, b)
			st.server.free(st.peer, b, false)
			if err != nil {
				return err
			}
		case <-st.say:
			st.mu.Lock()
			small, st.cancelled = st.cancelled, spare[:0]
			st.mu.Unlock()
			spare, unsaid = small, len(small)/(headerSize+requestLen)
		case <-changed:
			due = time.After(max(0, interval-time.Since(last)))
		case <-due:
			due = nil
			last = time.Now()
			if spans, complete = st.follow.take(); complete {
				small = appendHaveComplete(small)
			} else if len(spans) > 0 {
				small = appendHave(small, spans)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// putLimited writes b as fast as the server's limits allow, all of it unless
// yield says otherwise; see putUntil.
func (st *serverStream) putLimited(ctx context.Context, b []byte, yield func() bool) (done int, err error) {
	for done < len(b) {
		st.limited.Store(true)
		n := st.server.cfg.Limiter.waitUp(ctx, &st.peer.limit, len(b)-done)
		st.limited.Store(false)
		took, err := st.putUntil(ctx, b[done:done+n], yield)
		done += took
		if err != nil || took < n {
			return done, err
		}
	}
	return done, nil
}

// put writes b.
func (st *serverStream) put(ctx context.Context, b []byte) error {
	_, err := st.putUntil(ctx, b, func() bool { return false })
	return err
}

// putUntil writes b. A stream may be slow, but must take something within each
// WriteTimeout. Meanwhile yield is asked every parkAfterNew whether to go on later;
// then what has been written by now is returned, and no error.
func (st *serverStream) putUntil(ctx context.Context, b []byte, yield func() bool) (done int, err error) {
	st.writing.Store(true)
	defer st.writing.Store(false)
	for taken := time.Now(); ; {
		pause := min(parkAfterNew, st.server.cfg.WriteTimeout)
		st.conn.SetWriteDeadline(time.Now().Add(pause))
		ending := ctx.Err() != nil
		if ending {
			// The stream ended just now, and this went over its deadline.
			st.conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		}
		n, err := st.conn.Write(b[done:])
		done += n
		if n > 0 {
			taken = time.Now()
		}
		switch {
		case err == nil:
			return done, nil
		case !errors.Is(err, os.ErrDeadlineExceeded), ending && n == 0, time.Since(taken) >= st.server.cfg.WriteTimeout:
			return done, err
		case yield():
			return done, nil
		}
	}
}
