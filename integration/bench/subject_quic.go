package main

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/quic-go/quic-go"
)

// quicGo is quic-go with its defaults, apart from how many streams a peer may
// open. Its datagrams are 1,452 bytes at most by itself.
type quicGo struct{}

func (quicGo) config() *quic.Config {
	return &quic.Config{MaxIncomingStreams: 1 << 20}
}

func (q quicGo) transport(addr string) (*quic.Transport, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, err
	}
	return &quic.Transport{Conn: c}, nil
}

func (q quicGo) listen(addr string) (listener, error) {
	t, err := q.transport(addr)
	if err != nil {
		return nil, err
	}
	cfg, err := serverTLS()
	if err != nil {
		return nil, err
	}
	l, err := t.Listen(cfg, q.config())
	return quicListener{l}, err
}

func (q quicGo) dialer() (dialer, error) {
	t, err := q.transport(":0")
	return quicDialer{t, q.config()}, err
}

type quicListener struct{ *quic.Listener }

func (l quicListener) addr() string { return l.Addr().String() }

func (l quicListener) accept(ctx context.Context) (conn, error) {
	c, err := l.Accept(ctx)
	return quicConn{c}, err
}

type quicDialer struct {
	t   *quic.Transport
	cfg *quic.Config
}

func (d quicDialer) dial(ctx context.Context, addr string) (conn, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	c, err := d.t.Dial(ctx, to, clientTLS(), d.cfg)
	return quicConn{c}, err
}

type quicConn struct{ *quic.Conn }

func (c quicConn) open(ctx context.Context) (stream, error) {
	s, err := c.OpenStreamSync(ctx)
	return quicStream{s}, err
}

func (c quicConn) accept(ctx context.Context) (stream, error) {
	s, err := c.AcceptStream(ctx)
	return quicStream{s}, err
}

func (c quicConn) close() { _ = c.CloseWithError(0, "") }

type quicStream struct{ *quic.Stream }

func (s quicStream) closeWrite() error { return s.Close() }

func (s quicStream) close() {
	s.CancelRead(0)
	_ = s.Close()
}

// alpn keeps TLS clients and servers of other purposes apart.
var alpn = []string{"stt-bench"}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: alpn, MinVersion: tls.VersionTLS13}
}
