package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"
)

// tlsOverTCP is TLS 1.3 of the standard library: one stream a connection, or
// many by yamux.
type tlsOverTCP struct{ mux bool }

func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		NextProtos:   alpn, MinVersion: tls.VersionTLS13,
	}, nil
}

func (s tlsOverTCP) listen(addr string) (listener, error) {
	cfg, err := serverTLS()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return tcpListener{l, func(c net.Conn) (conn, error) {
		t := tls.Server(c, cfg)
		// Here, not in a goroutine, so that a session is one when accept returns.
		if err := t.Handshake(); err != nil {
			return nil, err
		}
		return s.wrap(t, yamux.Server)
	}}, nil
}

func (s tlsOverTCP) dialer() (dialer, error) {
	return tcpDialer(func(ctx context.Context, addr string) (conn, error) {
		d := tls.Dialer{Config: clientTLS()}
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return s.wrap(c, yamux.Client)
	}), nil
}

func (s tlsOverTCP) wrap(c net.Conn, side func(io.ReadWriteCloser, *yamux.Config) (*yamux.Session, error)) (conn, error) {
	if !s.mux {
		return singleConn{c}, nil
	}
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	cfg.MaxStreamWindowSize = 8 << 20
	m, err := side(c, cfg)
	return muxConn{m}, err
}

// plainTCP is TCP in clear with the kernel's congestion control of that name:
// the yardstick over emulated links.
type plainTCP struct{ congestion string }

func (p plainTCP) set(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, p.congestion)
	})
	return errors.Join(err, failed)
}

func (p plainTCP) listen(addr string) (listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return tcpListener{l, func(c net.Conn) (conn, error) { return singleConn{c}, p.set(c) }}, nil
}

func (p plainTCP) dialer() (dialer, error) {
	return tcpDialer(func(ctx context.Context, addr string) (conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return singleConn{c}, p.set(c)
	}), nil
}

type tcpListener struct {
	net.Listener
	wrap func(net.Conn) (conn, error)
}

func (l tcpListener) addr() string { return l.Addr().String() }

func (l tcpListener) accept(context.Context) (conn, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c)
}

type tcpDialer func(ctx context.Context, addr string) (conn, error)

func (d tcpDialer) dial(ctx context.Context, addr string) (conn, error) { return d(ctx, addr) }

// singleConn is a connection whose one stream is itself. A second accept
// waits for the end.
type singleConn struct{ net.Conn }

func (c singleConn) open(context.Context) (stream, error)   { return tcpStream{c.Conn}, nil }
func (c singleConn) accept(context.Context) (stream, error) { return tcpStream{c.Conn}, nil }
func (c singleConn) close()                                 { _ = c.Conn.Close() }

type tcpStream struct{ net.Conn }

func (s tcpStream) closeWrite() error { return s.Conn.(interface{ CloseWrite() error }).CloseWrite() }
func (s tcpStream) close()            { _ = s.Conn.Close() }

type muxConn struct{ *yamux.Session }

func (c muxConn) open(context.Context) (stream, error) {
	s, err := c.OpenStream()
	return muxStream{s}, err
}

func (c muxConn) accept(ctx context.Context) (stream, error) {
	s, err := c.AcceptStreamWithContext(ctx)
	return muxStream{s}, err
}

func (c muxConn) close() { _ = c.Session.Close() }

type muxStream struct{ *yamux.Stream }

func (s muxStream) closeWrite() error { return s.Close() }
func (s muxStream) close()            { _ = s.Close() }
