package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// The protocol of pipes, behind the passes:
//
//	opener                     listener
//	             ◀───────────  taken (1) = 1      its turn has come
//	bytes, end   ───────────▶
//	             ◀───────────  count (8), end     so many bytes, and the end, have been written
const pipeTaken = 1

// maxWaiting bounds the senders that wait for their turn.
const maxWaiting = 64

func listenCommand() *command {
	return &command{
		name:  "listen",
		args:  "NAME [FLAGS]",
		short: "print what another node sends to a name here",
		long: `Writes to standard output what somebody in the network sends with

  sttnode send NODE NAME < file

where NODE is the ID of this node, as init prints it, or an address. It takes one
sender and ends with 0 when all of it is written and the sender has been told.
If the sender breaks off, it ends with 3. With --keep it takes one sender after
another until SIGINT or SIGTERM; one that breaks off is reported on standard
error. Senders that come meanwhile wait for their turn: outputs never mix.

Everybody who holds the shared seed may send, unless --from names the nodes that
may. It runs beside other processes of the same directory, also of the same
NAME, on a port of its own; where those listen, according to the environment and
the settings file, does not concern it. Its address is told to the network, by
--bootstrap.

Example:
  sttnode listen backups > photos.tar
  sttnode listen log --keep >> all.log`,
		group: groupBeside,
		setup: func(fs *pflag.FlagSet) runFunc {
			var keep bool
			var from []string
			fs.BoolVar(&keep, "keep", false, "take one sender after another until stopped")
			defineFrom(fs, &from)
			return func(ctx context.Context, a *app, args []string) error { return runListen(ctx, a, args, keep, from) }
		},
	}
}

func defineFrom(fs *pflag.FlagSet, from *[]string) {
	fs.StringSliceVar(from, "from", nil, "take only streams of the node with this `ID`, as init prints it; may be repeated")
}

func runListen(ctx context.Context, a *app, args []string, keep bool, from []string) error {
	if len(args) != 1 {
		return usagef("listen needs one NAME")
	}
	name := args[0]
	if err := checkPipeName(name); err != nil {
		return err
	}
	if a.options.json {
		return usagef("--json and what is sent both want standard output")
	}
	// Who reads our output may go: that is an error to report to the sender,
	// and no reason to die in the middle of it.
	signal.Ignore(syscall.SIGPIPE)
	l := &listener{
		app: a, keep: keep,
		turn: make(chan struct{}, 1), places: make(chan struct{}, maxWaiting), gone: make(chan struct{}), result: make(chan error, 1),
	}
	protocol := pipeProtocol.of(name)
	p, err := a.startPipeNode(ctx, false, func(p *pipeNode) error {
		l.node = p
		if err := p.takeFrom(from); err != nil {
			return err
		}
		return p.Handle(protocol, l.handle)
	})
	if err != nil {
		return err
	}
	a.note("Listening on %s. Others send with: sttnode send %v %s", p.where(), p.owner, name)
	var announcing sync.WaitGroup
	defer announcing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	announced := make(chan error, 1)
	announcing.Go(func() { announced <- p.announce(ctx, []string{protocol}) })
	for announced := announced; ; {
		select {
		case err = <-l.result:
			return errors.Join(err, p.stop())
		case err = <-announced:
			if announced = nil; err != nil && ctx.Err() == nil {
				return errors.Join(err, p.stop())
			}
		case <-ctx.Done():
			idle := l.close()
			err := p.stop()
			select {
			case done := <-l.result: // in the same moment
				return errors.Join(done, err)
			default:
			}
			if keep && idle {
				return err
			}
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// listener writes what senders send, one after another.
type listener struct {
	app  *app
	node *pipeNode
	keep bool

	places chan struct{} // holds a token for each sender that has come
	turn   chan struct{} // holds a token while a sender is served, and when no other will be
	gone   chan struct{} // closed when no other will be
	end    sync.Once     // of gone
	result chan error    // what the command ends with
}

// close lets no other sender have its turn, and reports whether none has it now.
func (l *listener) close() (idle bool) {
	l.end.Do(func() { close(l.gone) })
	select {
	case l.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

// handle takes a sender's stream.
func (l *listener) handle(ctx context.Context, st *node.Stream) {
	from, ok := l.node.admit(st)
	if !ok {
		return
	}
	select {
	case l.places <- struct{}{}:
		defer func() { <-l.places }()
	default:
		st.Reset(codeBusy)
		return
	}
	select {
	case l.turn <- struct{}{}:
	case <-l.gone:
		st.Reset(codeGone)
		return
	case <-ctx.Done():
		return
	}
	if done, err := l.take(ctx, st, from); done {
		// The turn is not given back: nobody comes after.
		l.end.Do(func() { close(l.gone) })
		l.result <- err
		return
	}
	<-l.turn
}

// take writes what one sender sends. It reports whether the command is done,
// and with what.
func (l *listener) take(ctx context.Context, st *node.Stream, from stc.Hash) (done bool, err error) {
	if _, err := st.Write([]byte{pipeTaken}); err != nil {
		return false, nil // gone while it waited
	}
	n, readErr, writeErr := copyUntilDone(ctx, l.app.stdout, st)
	switch {
	case ctx.Err() != nil:
		st.Reset(codeGone)
		return false, nil
	case writeErr != nil:
		st.Reset(codeBroken)
		return true, fmt.Errorf("standard output: %w", writeErr)
	case readErr != nil && n == 0:
		return false, nil // gone while it waited, or before it began
	case readErr != nil:
		st.Reset(codeBroken)
		err = fmt.Errorf("%w: node %v broke off after %s: %w", errPartly, from, humanBytes(n), readErr)
		if l.keep {
			l.app.warn("%s", errorText(err))
		}
		return !l.keep, err
	}
	_, _ = st.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	l.app.note("Received %s from node %v.", humanBytes(n), from)
	return !l.keep, nil
}

// copyUntilDone copies r to w until its end or until ctx ends, even while a
// call of w.Write waits for a reader. That call then waits for the end of the
// process.
func copyUntilDone(ctx context.Context, w io.Writer, r io.Reader) (n int64, readErr, writeErr error) {
	pr, pw := io.Pipe()
	unlink := context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	defer unlink()
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, pr)
		pr.CloseWithError(err)
		written <- err
	}()
	n, readErr = io.Copy(pw, r)
	pw.Close()
	select {
	case writeErr = <-written:
	case <-ctx.Done():
		writeErr = context.Cause(ctx)
	}
	if writeErr != nil {
		readErr = nil // it is the same one, or of no interest
	}
	return n, readErr, writeErr
}
