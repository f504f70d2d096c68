package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/seigr/sttnode/session"
	"github.com/seigr/sttnode/session/transport"
	"github.com/seigr/sttnode/stc"
)

// stt is the session layer of sttnode.
type stt struct {
	congestion session.Congestion
	datagram   int // limit in bytes; 0 for none
}

func (s stt) endpoint(addr string, name string) (*session.Endpoint, error) {
	id, err := stc.NewIdentity(fmt.Appendf(nil, "%-32s%d", "benchmark "+name, os.Getpid()))
	if err != nil {
		return nil, err
	}
	keys, err := stc.NewKeyring(fmt.Appendf(nil, "%-32s", "benchmark"))
	if err != nil {
		return nil, err
	}
	udp, err := transport.ListenUDP(addr)
	if err != nil {
		return nil, err
	}
	return session.NewEndpoint(udp, session.Config{Identity: id, Keyring: keys, Congestion: s.congestion, MaxPeerSessions: 10_000, MaxDatagram: s.datagram})
}

func (s stt) listen(addr string) (listener, error) {
	e, err := s.endpoint(addr, "server")
	return sttEndpoint{e}, err
}

func (s stt) dialer() (dialer, error) {
	e, err := s.endpoint(":0", "client")
	return sttEndpoint{e}, err
}

type sttEndpoint struct{ *session.Endpoint }

func (e sttEndpoint) addr() string { return e.LocalAddr().String() }

func (e sttEndpoint) accept(ctx context.Context) (conn, error) {
	s, err := e.Accept(ctx)
	return sttConn{s}, err
}

func (e sttEndpoint) dial(ctx context.Context, addr string) (conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	s, err := e.Dial(ctx, to, stc.Hash{})
	return sttConn{s}, err
}

type sttConn struct{ *session.Session }

func (c sttConn) open(ctx context.Context) (stream, error) {
	st, err := c.OpenStream(ctx)
	return sttStream{st}, err
}

func (c sttConn) accept(ctx context.Context) (stream, error) {
	st, err := c.AcceptStream(ctx)
	return sttStream{st}, err
}

func (c sttConn) close() { _ = c.CloseWithError(session.CodeNone, "") }

type sttStream struct{ *session.Stream }

func (s sttStream) closeWrite() error { return s.CloseWrite() }
func (s sttStream) close()            { _ = s.Close() }
