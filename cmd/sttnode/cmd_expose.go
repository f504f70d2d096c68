package main

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/node"
)

func exposeCommand() *command {
	return &command{
		name:  "expose",
		args:  "NAME=HOST:PORT... [FLAGS]",
		short: "let other nodes connect to TCP ports from here, with forward",
		long: `Lets others in the network connect to the TCP port HOST:PORT, as seen from this
machine, with

  sttnode forward LOCAL NODE NAME

where NODE is the ID of this node, as init prints it, or an address. Everything
on the way is encrypted, and half-closed connections stay half-closed. Any number
of NAMEs may be given. It runs until SIGINT or SIGTERM, and exits with 0.

Everybody who holds the shared seed may connect, unless --from names the nodes
that may. Connections beyond --max-connections are refused.

It runs beside other processes of the same directory, on a port of its own; where
those listen, according to the environment and the settings file, does not
concern it. Its address is told to the network, by --bootstrap.

Example:
  sttnode expose web=127.0.0.1:80 shell=127.0.0.1:22 --from f0b1…e1`,
		group: groupBeside,
		setup: func(fs *pflag.FlagSet) runFunc {
			var e exposer
			defineFrom(fs, &e.from)
			defineMaxConnections(fs, &e.most)
			return func(ctx context.Context, a *app, args []string) error { return e.run(ctx, a, args) }
		},
	}
}

func defineMaxConnections(fs *pflag.FlagSet, most *int) {
	fs.IntVar(most, "max-connections", defaultConnections, "no more than `N` connections at a time")
}

const (
	// defaultConnections fits into the streams that a node lets a peer have.
	defaultConnections = 200
	// targetTimeout bounds the connecting to a port that is exposed.
	targetTimeout = 10 * time.Second
)

// exposer connects streams of others to TCP ports.
type exposer struct {
	from []string
	most int

	node   *pipeNode
	places chan struct{} // holds a token for each connection
}

// exposingEvent is what --json says once it listens.
type exposingEvent struct {
	Event string            `json:"event"`
	Node  string            `json:"node_id"`
	UDP   string            `json:"udp"`
	Ports map[string]string `json:"ports"` // by name
}

func (e *exposer) run(ctx context.Context, a *app, args []string) error {
	ports, err := parsePorts(args)
	if err != nil {
		return err
	}
	if e.most < 1 {
		return usagef("--max-connections must be positive")
	}
	e.places = make(chan struct{}, e.most)
	var protocols []string
	p, err := a.startPipeNode(ctx, false, func(p *pipeNode) error {
		e.node = p
		if err := p.takeFrom(e.from); err != nil {
			return err
		}
		for name, port := range ports {
			protocols = append(protocols, tcpProtocol.of(name))
			if err := p.Handle(tcpProtocol.of(name), func(ctx context.Context, st *node.Stream) { e.handle(ctx, st, port) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.options.json {
		a.emit(exposingEvent{"exposing", p.owner.String(), p.Addr().String(), ports})
	}
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		port := ports[name]
		a.note("Exposing %s on %s. Others connect with: sttnode forward PORT %v %s", port, p.where(), p.owner, name)
	}
	if err := p.announce(ctx, protocols); err != nil && ctx.Err() == nil {
		return errors.Join(err, p.stop())
	}
	return p.serveUntilSignal(ctx)
}

// parsePorts reads the arguments of expose.
func parsePorts(args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, usagef("expose needs at least one NAME=HOST:PORT")
	}
	ports := make(map[string]string)
	for _, arg := range args {
		name, port, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usagef("%q is not of the form NAME=HOST:PORT", arg)
		}
		if err := checkPipeName(name); err != nil {
			return nil, err
		}
		host, number, err := net.SplitHostPort(port)
		if err != nil || host == "" || number == "" || number == "0" {
			return nil, usagef("%q is not of the form NAME=HOST:PORT", arg)
		}
		if ports[name] != "" {
			return nil, usagef("the NAME %q is given twice", name)
		}
		ports[name] = port
	}
	return ports, nil
}

// handle connects a stream to a port.
func (e *exposer) handle(ctx context.Context, st *node.Stream, port string) {
	a := e.node.app
	from, ok := e.node.admit(st)
	if !ok {
		return
	}
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	default:
		a.log.Warn("a connection was refused: there are too many", "node", from, "port", port)
		st.Reset(codeBusy)
		return
	}
	dialling, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(dialling, "tcp", port)
	if err != nil {
		a.log.Warn("a connection was refused", "node", from, "err", err)
		st.Reset(codeBroken)
		return
	}
	a.log.Info("connected", "node", from, "port", port)
	splice(ctx, st, conn.(*net.TCPConn))
}
