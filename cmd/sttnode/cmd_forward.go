package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
)

func forwardCommand() *command {
	return &command{
		name:  "forward",
		args:  "LOCAL NODE NAME [FLAGS]",
		short: "connect a TCP port here to one that another node exposes",
		long: `Listens on the TCP address LOCAL, PORT or HOST:PORT, and connects each connection
to the port that NODE exposes as NAME:

  sttnode expose NAME=HOST:PORT

A PORT alone is on 127.0.0.1; port 0 takes a free one. The address is printed on
standard output once NODE has been reached. Everything on the way is encrypted,
and half-closed connections stay half-closed. A session that is lost takes its
connections with it, and is made anew for the next. Connections beyond
--max-connections wait.

NODE is what it is for send: the ID that init prints there, or an address. It
runs until SIGINT or SIGTERM, and exits with 0; with 4 if NODE is not found, with
5 if it does not answer in the beginning. It needs no store, and runs beside
other processes of the same directory.

Example:
  sttnode forward 8080 f0b1…e1 web
  sttnode forward 127.0.0.1:2222 192.0.2.7:40123 shell`,
		group: groupBeside,
		setup: func(fs *pflag.FlagSet) runFunc {
			var f forwarder
			fs.DurationVar(&f.search, "search-timeout", defaultSearchTimeout, "give up if NODE is not found in this `TIME`")
			defineMaxConnections(fs, &f.most)
			return func(ctx context.Context, a *app, args []string) error { return f.run(ctx, a, args) }
		},
	}
}

// forwarder connects TCP connections to streams.
type forwarder struct {
	most   int
	search time.Duration

	node     *pipeNode
	to       destination
	protocol string
}

// forwardingEvent is what --json says once it listens.
type forwardingEvent struct {
	Event string `json:"event"`
	Local string `json:"local"`
	Node  string `json:"node"`
	Name  string `json:"name"`
}

func (f *forwarder) run(ctx context.Context, a *app, args []string) (err error) {
	if len(args) != 3 {
		return usagef("forward needs a LOCAL address, a NODE and a NAME")
	}
	local, name := args[0], args[2]
	if !strings.Contains(local, ":") {
		local = net.JoinHostPort("127.0.0.1", local)
	}
	if f.to, err = parseDestination(args[1]); err != nil {
		return err
	}
	if err := checkPipeName(name); err != nil {
		return err
	}
	if f.search <= 0 || f.most < 1 {
		return usagef("--search-timeout and --max-connections must be positive")
	}
	if _, err := net.ResolveTCPAddr("tcp", local); err != nil {
		return usagef("LOCAL: %v", err)
	}
	f.protocol = tcpProtocol.of(name)
	listener, err := net.Listen("tcp", local)
	if err != nil {
		return err
	}
	defer listener.Close()
	if f.node, err = a.startPipeNode(ctx, true, func(*pipeNode) error { return nil }); err != nil {
		return err
	}
	if err := f.node.reach(ctx, f.to, f.protocol, f.search); err != nil {
		return errors.Join(err, f.node.stop())
	}
	if a.options.json {
		a.emit(forwardingEvent{"forwarding", listener.Addr().String(), f.to.text, name})
	} else {
		fmt.Fprintln(a.stdout, listener.Addr())
	}
	a.note("Forwarding %v to %s of %s. Stop with Ctrl-C.", listener.Addr(), name, f.to.text)
	err = f.serve(ctx, listener)
	if ctx.Err() != nil {
		a.note("Stopping.")
		err = nil
	}
	return errors.Join(err, f.node.stop())
}

// serve takes connections until ctx ends, and then ends all of them.
func (f *forwarder) serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	unlink := context.AfterFunc(ctx, func() { listener.Close() })
	defer unlink()
	places := make(chan struct{}, f.most)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		connections.Go(func() {
			f.connect(ctx, conn.(*net.TCPConn))
			<-places
		})
	}
}

// connect carries one connection.
func (f *forwarder) connect(ctx context.Context, conn *net.TCPConn) {
	st, err := f.node.open(ctx, f.to, f.protocol, f.search)
	if err != nil {
		abort(conn)
		if ctx.Err() == nil {
			f.node.app.warn("a connection was not forwarded: %s", errorText(err))
		}
		return
	}
	splice(ctx, st, conn)
}

// splice carries bytes both ways between a stream and a connection, and the end
// of each way by itself. It returns when both have ended. An error of one way
// ends the other, and so does ctx.
func splice(ctx context.Context, st *node.Stream, conn *net.TCPConn) {
	broken := func() {
		st.Reset(codeBroken)
		abort(conn)
	}
	unlink := context.AfterFunc(ctx, broken)
	defer unlink()
	var ways sync.WaitGroup
	ways.Go(func() {
		if _, err := io.Copy(st, conn); err != nil || st.CloseWrite() != nil {
			broken()
		}
	})
	ways.Go(func() {
		if _, err := io.Copy(conn, st); err != nil || conn.CloseWrite() != nil {
			broken()
		}
	})
	ways.Wait()
	_ = st.Close()
	_ = conn.Close()
}

// abort closes a connection so that the other end learns that it has not ended
// in order.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
