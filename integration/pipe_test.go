package integration

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// redirected makes the shell start a member's next processes with the redirections given.
func (m *member) redirected(redirection string) *member {
	m.under = []string{"sh", "-c", `exec "$@" ` + redirection, "sh"}
	return m
}

// beside starts a command that runs beside the member's node, if it has one. args may override the flags.
func (m *member) beside(t testing.TB, command string, args ...string) *process {
	t.Helper()
	all := []string{command, "--dir", m.dir, "--shared-seed-file", m.seed, "--listen", "127.0.0.1:0", "--bootstrap", m.bootstrap.ready.UDP}
	return m.run(t, append(all, args...)...)
}

// nodeID returns the ID that init prints.
func (m *member) nodeID(t testing.TB) string {
	t.Helper()
	p := m.run(t, "init", "--dir", m.dir, "--shared-seed-file", m.seed)
	p.expect(t, exitOK)
	return strings.TrimSpace(p.stdout.String())
}

// A file goes from process to process, found by the ID of a node that serves beside, and arrives as it was. Several senders
// come at once and do not mix.
func TestPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell for redirections")
	}
	rnd := random(t)
	c := newCluster(t)
	bob := c.member(t, "bob")
	id := bob.nodeID(t)
	bob.serve(t, "seed", randomFile(t, rnd, filepath.Join(c.dir, "other"), 1<<20))
	out := filepath.Join(c.dir, "out")

	path := randomFile(t, rnd, filepath.Join(c.dir, "file"), pick[int64](16<<20, 256<<20))
	listener := bob.redirected("> "+out).beside(t, "listen", "name")
	alice := c.member(t, "alice").redirected("< " + path)
	began := time.Now()
	alice.beside(t, "send", id, "name").expect(t, exitOK)
	t.Logf("sent in %v", time.Since(began))
	listener.expect(t, exitOK)
	same(t, path, out)

	// Each of these sends the letter that it is, many times.
	keeper := bob.beside(t, "listen", "name", "--keep")
	var senders []*process
	const size = 1 << 20
	for i := range 5 {
		path := filepath.Join(c.dir, fmt.Sprint("sender", i))
		must(t, os.WriteFile(path, bytes.Repeat([]byte{byte('a' + i)}, size), 0o644))
		senders = append(senders, c.member(t, fmt.Sprint("sender of ", i)).redirected("< "+path).beside(t, "send", id, "name"))
	}
	for _, p := range senders {
		p.expect(t, exitOK)
	}
	keeper.stop(t)
	got, err := os.ReadFile(out)
	must(t, err)
	if len(got) != 5*size {
		t.Fatalf("%d bytes of 5 senders, want %d", len(got), 5*size)
	}
	for i := range 5 {
		if part := got[i*size : (i+1)*size]; bytes.Count(part, part[:1]) != size {
			t.Errorf("part %d is of several senders", i)
		}
	}
}

// Whoever is stopped in the middle, the other side does not take it for the end.
func TestPipeBreaks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no signals to send")
	}
	c := newCluster(t)
	bob, alice := c.member(t, "bob"), c.member(t, "alice")
	id := bob.nodeID(t)
	for _, test := range []struct {
		name                   string
		stopListener           bool
		ofSender, ofListener   int
		senderSays, listenSays string
	}{
		{"sender", false, exitInterrupted, exitPartly, "interrupted", "broke off after"},
		{"listener", true, exitPartly, exitInterrupted, "partly done", "interrupted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(c.dir, "out of "+test.name)
			listener := bob.redirected("> '"+out+"'").beside(t, "listen", "endless")
			sender := alice.redirected("< /dev/zero").beside(t, "send", id, "endless")
			sender.await(t, "bytes at the listener", func() bool { info, err := os.Stat(out); return err == nil && info.Size() > 1<<20 })
			if test.stopListener {
				listener.signal(t, os.Interrupt)
			} else {
				sender.signal(t, os.Interrupt)
			}
			sender.expect(t, test.ofSender)
			listener.expect(t, test.ofListener)
			if !strings.Contains(sender.stderr.String(), test.senderSays) || !strings.Contains(listener.stderr.String(), test.listenSays) {
				t.Errorf("%s\n%s", sender.report(), listener.report())
			}
		})
	}
}

// shouter is a TCP server that answers, once a client has ended its side, with what came in capitals, behind a greeting.
func shouter(t testing.TB) (addr string, open *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	open = new(atomic.Int32)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			running.Go(func() {
				defer open.Add(-1)
				defer conn.Close()
				_, _ = io.WriteString(conn, "hello ")
				b, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(bytes.ToUpper(b))
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return l.Addr().String(), open
}

// shout is a client of shouter, which must answer.
func shout(t testing.TB, addr string, data []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	greeting := make([]byte, 6)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "hello " {
		t.Errorf("greeting %q, %v", greeting, err)
		return
	}
	if _, err := conn.Write(data); err != nil {
		t.Error(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, bytes.ToUpper(data)) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
	}
}

// TCP connections go through, many at a time, with the end of each direction by itself. A session that is lost costs its
// connections and no more.
func TestForward(t *testing.T) {
	c := newCluster(t)
	bob, alice := c.member(t, "bob"), c.member(t, "alice")
	id := bob.nodeID(t)
	server, open := shouter(t)
	expose := func() *process {
		return bob.beside(t, "expose", "shout="+server, "nobody=127.0.0.1:1", "--max-connections", "30")
	}
	exposer := expose()
	forward := func(name string) (*process, string) {
		p := alice.beside(t, "forward", "0", id, name)
		p.await(t, "address", func() bool { return strings.HasSuffix(p.stdout.String(), "\n") })
		return p, strings.TrimSpace(p.stdout.String())
	}
	forwarder, local := forward("shout")

	shout(t, local, []byte("is anybody there?"))
	shout(t, local, bytes.Repeat([]byte("a lot of it "), pick(500_000, 5_000_000)))
	var clients sync.WaitGroup
	for i := range 30 {
		clients.Go(func() { shout(t, local, bytes.Repeat([]byte(fmt.Sprintf("client %d ", i)), 10_000)) })
	}
	clients.Wait()

	// The cap of the exposer: what is beyond it is refused, not kept waiting.
	var held []net.Conn
	dial := func() (net.Conn, error) {
		conn, err := net.Dial("tcp", local)
		if err != nil {
			return nil, err
		}
		held = append(held, conn)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		_, err = io.ReadFull(conn, make([]byte, 6))
		return conn, err
	}
	forwarder.await(t, "the end of all connections", func() bool { return open.Load() == 0 })
	refused := 0
	for range 40 {
		if _, err := dial(); err != nil {
			refused++
		}
	}
	if refused < 10 || open.Load() > 30 {
		t.Errorf("%d of 40 connections were refused, %d are open, want at most 30", refused, open.Load())
	}

	// A client that breaks off is broken off there.
	for _, conn := range held {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	forwarder.await(t, "the end of all connections", func() bool { return open.Load() == 0 })

	// Nobody at the port.
	other, nowhere := forward("nobody")
	conn, err := net.Dial("tcp", nowhere)
	must(t, err)
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("reading from a port where nobody listens: %v, want a reset", err)
	}

	// The exposer ends and comes again, elsewhere.
	if runtime.GOOS == "windows" {
		return
	}
	waiting, err := dial()
	must(t, err)
	exposer.stop(t)
	if _, err := waiting.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("reading from a connection whose other side was stopped: %v, want a reset", err)
	}
	expose()
	shout(t, local, []byte("once more"))
	forwarder.stop(t)
	other.stop(t)
}
