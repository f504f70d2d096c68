package main

import (
	"context"
	"fmt"
	"io"

	"github.com/seigr/sttnode/session"
)

// A subject is something that carries streams between two processes.
type subject interface {
	// listen serves on addr ("host:port") and returns where exactly.
	listen(addr string) (listener, error)
	// dialer returns what makes sessions; all of one dialer share its
	// socket where the subject can do that.
	dialer() (dialer, error)
}

type listener interface {
	addr() string
	accept(ctx context.Context) (conn, error)
}

type dialer interface {
	dial(ctx context.Context, addr string) (conn, error)
}

// conn is an encrypted session.
type conn interface {
	open(ctx context.Context) (stream, error)
	accept(ctx context.Context) (stream, error)
	close()
}

type stream interface {
	io.Reader
	io.Writer
	closeWrite() error // the peer reads io.EOF
	close()            // we are done with it
}

// subjects are known by name on the command line of the processes.
var subjects = map[string]subject{
	"stt":       stt{datagram: 1452}, // as the others' over loopback
	"stt-path":  stt{},               // whatever the path carries
	"stt-cubic": stt{congestion: session.CongestionCUBIC},
	"stt-bbr":   stt{congestion: session.CongestionBBR},
	"stt-ws":    sttOverWS{},
	"quic-go":   quicGo{},
	"tls":       tlsOverTCP{},
	"yamux":     tlsOverTCP{mux: true},
	"tcp-cubic": plainTCP{congestion: "cubic"},
	"tcp-bbr":   plainTCP{congestion: "bbr"},
}

func subjectByName(name string) (subject, error) {
	s, ok := subjects[name]
	if !ok {
		return nil, fmt.Errorf("no subject %q", name)
	}
	return s, nil
}
