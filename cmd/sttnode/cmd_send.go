package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
)

func sendCommand() *command {
	return &command{
		name:  "send",
		args:  "NODE NAME [FLAGS] < FILE",
		short: "send standard input to a node that listens for a name",
		long: `Sends standard input, until its end, to who runs "sttnode listen NAME" for NODE.
It exits with 0 only when the other side has confirmed that everything, and the
end, is written. NODE is one of

  NODEID                          wherever the network finds it, by --bootstrap
  [NODEID@]HOST:PORT              the address that listen prints
  [NODEID@]ws[s]://HOST:PORT/stt  over WebSocket

with the ID that init prints there. Where an ID is given, the other side has to
prove that it acts for that node before it gets a byte.

While the other side serves another sender, this one waits for its turn. It ends
with 3 if the other side breaks off or is lost after that, with 4 if NODE is not
found or nobody listens there for NAME, with 5 if NODE does not answer. It needs no store, and runs beside other processes of the
same directory.

Example:
  tar c ./photos | sttnode send f0b1…e1 backups
  sttnode send 192.0.2.7:40123 backups < photos.tar`,
		group: groupBeside,
		setup: func(fs *pflag.FlagSet) runFunc {
			var f sendFlags
			fs.DurationVar(&f.timeout, "timeout", 0, "give up if it is not confirmed after this `TIME`, such as 90s or 2h; 0 is never")
			fs.DurationVar(&f.search, "search-timeout", defaultSearchTimeout, "give up if NODE is not found in this `TIME`")
			return func(ctx context.Context, a *app, args []string) error { return runSend(ctx, a, args, f) }
		},
	}
}

type sendFlags struct{ timeout, search time.Duration }

// sentEvent is what --json says at the end.
type sentEvent struct {
	Event   string  `json:"event"`
	Node    string  `json:"node"`
	Name    string  `json:"name"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func runSend(ctx context.Context, a *app, args []string, f sendFlags) error {
	if len(args) != 2 {
		return usagef("send needs a NODE and a NAME")
	}
	to, err := parseDestination(args[0])
	if err != nil {
		return err
	}
	name := args[1]
	if err := checkPipeName(name); err != nil {
		return err
	}
	if f.timeout < 0 || f.search <= 0 {
		return usagef("timeouts must be positive")
	}
	p, err := a.startPipeNode(ctx, true, func(*pipeNode) error { return nil })
	if err != nil {
		return err
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("%w: not confirmed after %v", errTimedOut, f.timeout))
		defer cancel()
	}
	start := time.Now()
	st, err := p.open(ctx, to, pipeProtocol.of(name), f.search)
	var n int64
	if err == nil {
		start = time.Now()
		n, err = a.sendInput(ctx, st)
	}
	stopErr := p.stop()
	if err != nil {
		return err
	}
	if stopErr != nil {
		a.log.Warn("the node did not stop in order", "err", stopErr)
	}
	took := time.Since(start)
	if a.options.json {
		a.emit(sentEvent{"sent", to.text, name, n, took.Seconds()})
	}
	a.note("Sent %s in %s; the other side has confirmed it.", humanBytes(n), humanDuration(took))
	return nil
}

// sendInput sends standard input on a stream of the pipe protocol, and returns
// how much it was, once that is confirmed.
func (a *app) sendInput(ctx context.Context, st *node.Stream) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unlink := context.AfterFunc(ctx, func() { st.Reset(codeBroken) })
	defer unlink()

	// Waiting is worth a line only when it takes longer than a round trip.
	waits := time.AfterFunc(2*time.Second, func() { a.note("Waiting for the other side, which has others to serve first.") })
	err := readTaken(st)
	waits.Stop()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, err
	}
	answer := make(chan uint64, 1)
	go func() {
		if count, err := readCount(st); err != nil {
			cancel(fmt.Errorf("%w: %w", errPartly, err)) // ends a wait for input as well
		} else {
			answer <- count
		}
	}()
	in := &input{Reader: untilDone(ctx, a.stdin), bar: a.startBar("sending")}
	defer in.bar.finish()
	n, err := io.Copy(st, in)
	switch {
	case ctx.Err() != nil:
		return n, context.Cause(ctx)
	case in.err != nil:
		st.Reset(codeBroken)
		return n, fmt.Errorf("standard input: %w", in.err)
	case err != nil:
		return n, fmt.Errorf("%w: %w", errPartly, streamError(err))
	}
	_ = st.CloseWrite()
	select {
	case count := <-answer:
		if count != uint64(n) {
			return n, fmt.Errorf("%w: the other side has written %d bytes of %d", errPartly, count, n)
		}
		return n, nil
	case <-ctx.Done():
		return n, context.Cause(ctx)
	}
}

// readTaken waits for the turn.
func readTaken(st *node.Stream) error {
	var taken [1]byte
	if _, err := io.ReadFull(st, taken[:]); err != nil {
		return streamError(err)
	}
	if taken[0] != pipeTaken {
		return errBroken
	}
	return nil
}

// readCount reads how much the other side has written.
func readCount(st *node.Stream) (uint64, error) {
	var count [8]byte
	if _, err := io.ReadFull(st, count[:]); err != nil {
		return 0, streamError(err)
	}
	return binary.BigEndian.Uint64(count[:]), nil
}

// input is what is read, shown by a bar. It keeps an error other than the end.
type input struct {
	io.Reader
	bar *bar
	n   int64
	err error
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.Reader.Read(p)
	in.n += int64(n)
	in.bar.set(in.n, 0, humanBytes(in.n))
	if err != nil && err != io.EOF {
		in.err = err
	}
	return n, err
}
