package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seigr/sttnode/frame"
)

// What the two nodes of a random world do: the scripts of their streams, and
// the application's frames.

// open is the opener's part of a script.
func (w *anyWorld) open(ctx context.Context, s *Session, sc script) error {
	if !pause(ctx, sc.begin) {
		return nil
	}
	st, err := s.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	data := randomBytes(sc.seed, sc.size)
	if _, err := st.Write([]byte{sc.number}); err != nil {
		return stopped(sc, err)
	}
	reader := make(chan error, 1)
	switch sc.act {
	case actAsk, actDuplex:
		go func() { reader <- same(st, randomBytes(sc.seed+1, sc.answer), sc.pause) }()
	default:
		reader <- nil
	}
	for len(data) > 0 {
		n := min(sc.piece, len(data))
		if sc.act == actReset && sc.size-len(data)+n > sc.cut {
			st.Reset(sc.seed % 1000)
			return nil
		}
		write := func(p []byte) error { _, err := st.Write(p); return err }
		if sc.act == actMessages {
			write = st.SendMessage
		}
		if err := write(data[:n]); err != nil {
			_ = st.Close()
			return errors.Join(stopped(sc, err), <-reader)
		}
		data = data[n:]
	}
	if sc.act == actReset {
		st.Reset(sc.seed % 1000)
		return nil
	}
	_ = st.CloseWrite()
	return <-reader
}

// stopped forgives the error that the acceptor's CloseRead gives its sender.
func stopped(sc script, err error) error {
	var se *StreamError
	if sc.act == actStop && errors.As(err, &se) && se.Remote && se.Code == sc.seed%1000 {
		return nil
	}
	return err
}

// accept takes the streams that the peer opens.
func (w *anyWorld) accept(ctx context.Context, wg *sync.WaitGroup, s *Session) {
	for {
		st, err := s.AcceptStream(ctx)
		if err != nil {
			return
		}
		wg.Go(func() {
			defer st.Close()
			var number [1]byte
			if _, err := io.ReadFull(st, number[:]); err != nil {
				var se *StreamError
				if !errors.As(err, &se) || !se.Remote { // a reset may overtake the number
					w.check(s, script{}, "acceptor of an unknown stream", err)
				}
				return
			}
			for side, scripts := range w.plan.scripts {
				for _, sc := range scripts {
					if sc.number != number[0] {
						continue
					}
					if (side == 0) == s.Initiator() {
						w.t.Errorf("stream %d came back to its opener", sc.number)
					}
					err := w.answer(st, sc)
					w.check(s, sc, "acceptor", err)
					if err == nil && sc.act != actReset {
						close(w.done[sc.number])
					}
				}
			}
		})
	}
}

// answer is the acceptor's part of a script.
func (w *anyWorld) answer(st *Stream, sc script) error {
	want := randomBytes(sc.seed, sc.size)
	switch sc.act {
	case actMessages:
		for len(want) > 0 {
			n := min(sc.piece, len(want))
			got, err := st.ReceiveMessage(n)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want[:n]) {
				return fmt.Errorf("a message of %d bytes came as %d others", n, len(got))
			}
			want = want[n:]
		}
		if _, err := st.ReceiveMessage(1); err != io.EOF {
			return fmt.Errorf("after the last message: %w", err)
		}
		return nil
	case actReset:
		var se *StreamError
		got, err := io.ReadAll(st)
		if errors.As(err, &se) && se.Remote && se.Code == sc.seed%1000 {
			err = nil
		} else if err == nil {
			err = errors.New("a stream that was reset ended in order")
		}
		if !bytes.HasPrefix(want, got) {
			return errors.New("bytes in front of a reset differ")
		}
		return err
	case actStop:
		got := make([]byte, sc.cut)
		if _, err := io.ReadFull(st, got); err != nil {
			return err
		}
		st.CloseRead(sc.seed % 1000)
		if !bytes.HasPrefix(want, got) {
			return errors.New("bytes in front of CloseRead differ")
		}
		return nil
	case actDuplex:
		sent := make(chan error, 1)
		go func() { sent <- w.reply(st, sc) }()
		err := same(st, want, sc.pause)
		if err != nil {
			_ = st.Close()
		}
		return errors.Join(err, <-sent)
	}
	if err := same(st, want, sc.pause); err != nil || sc.act == actSend {
		return err
	}
	return w.reply(st, sc)
}

func (w *anyWorld) reply(st *Stream, sc script) error {
	if _, err := st.Write(randomBytes(sc.seed+1, sc.answer)); err != nil {
		return err
	}
	return st.CloseWrite()
}

// same reads a stream to its end and compares.
func same(st io.Reader, want []byte, rest time.Duration) error {
	p := make([]byte, 5000)
	for at := 0; ; {
		n, err := st.Read(p)
		if at+n > len(want) || !bytes.Equal(p[:n], want[at:at+n]) {
			return fmt.Errorf("bytes from %d to %d of %d differ", at, at+n, len(want))
		}
		at += n
		if err == io.EOF {
			if at != len(want) {
				return fmt.Errorf("the end came after %d of %d bytes", at, len(want))
			}
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(rest)
	}
}

// sendFrames sends the application's frames of one side.
func (w *anyWorld) sendFrames(ctx context.Context, side int, s *Session) {
	if len(w.plan.frames[side]) == 0 {
		close(w.heard[1-side])
	}
	for i, n := range w.plan.frames[side] {
		if err := s.SendFrame(ctx, frame.TypeUser, uint16(i), randomBytes(uint64(i), n)); err != nil {
			w.check(s, script{}, "sender of frames", err)
			return
		}
	}
}

// take is the handler of the application's frames at one side.
func (w *anyWorld) take(side int, f UserFrame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want, i := w.plan.frames[1-side], len(w.frames[side])
	if i >= len(want) || int(f.Stream) != i || !bytes.Equal(f.Payload, randomBytes(uint64(i), want[i])) {
		w.t.Errorf("frame %d of side %d came as number %d with %d bytes", i, side, f.Stream, len(f.Payload))
		return
	}
	w.frames[side] = append(w.frames[side], f)
	if len(w.frames[side]) == len(want) {
		close(w.heard[side])
	}
}
