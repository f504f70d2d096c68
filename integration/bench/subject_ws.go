package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// sttOverWS is the session layer of sttnode over WebSocket.
type sttOverWS struct{}

func (sttOverWS) listen(addr string) (listener, error) {
	e, err := stt{}.endpoint("127.0.0.1:0", "server")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	web := &http.Server{
		Handler:           transport.WebSocketHandler(func(w *transport.WebSocket) { _ = e.Serve(w) }),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = web.Serve(l) }() // to the end of the process
	return wsListener{sttEndpoint{e}, l.Addr()}, nil
}

type wsListener struct {
	sttEndpoint
	at net.Addr
}

func (l wsListener) addr() string { return l.at.String() }

func (sttOverWS) dialer() (dialer, error) {
	e, err := stt{}.endpoint("127.0.0.1:0", "client")
	return wsDialer{sttEndpoint{e}}, err
}

type wsDialer struct{ sttEndpoint }

func (d wsDialer) dial(ctx context.Context, addr string) (conn, error) {
	carrier, err := transport.DialWebSocket(ctx, "ws://"+addr)
	if err != nil {
		return nil, err
	}
	s, err := d.DialOver(ctx, carrier, stc.Hash{})
	return sttConn{s}, err
}
