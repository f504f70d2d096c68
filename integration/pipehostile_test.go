package integration

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// passOf makes the pass of docs/PROTOCOL.md: bearer may act for owner.
func passOf(owner *stc.Identity, bearer stc.Hash) []byte {
	key := owner.PublicKey()
	return append(key[:], owner.Sign(append([]byte("sttnode pass v1"), bearer[:]...))...)
}

func identityOf(t testing.TB, seed string) *stc.Identity {
	t.Helper()
	id, err := stc.NewIdentity(bytes.Repeat([]byte(seed), stc.MinSeedSize))
	must(t, err)
	return id
}

// Members who answer a sender with less than the protocol asks for: it ends with an error each time, and tells its input only to
// whom it was meant for.
func TestHostileListener(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell for redirections")
	}
	c := newCluster(t)
	hostile := hostileNode(t, c)
	self, other := identityOf(t, "s"), identityOf(t, "o")
	input := filepath.Join(c.dir, "input")
	must(t, os.WriteFile(input, []byte("secret"), 0o600))
	count := func(n byte) []byte { return append(make([]byte, 7), n) }

	tests := []struct {
		name    string
		answer  func(st *node.Stream, heard *bytes.Buffer)
		code    int
		says    string
		mayHear bool
	}{
		{"in order", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, hostile.ID()), 1))
			_, _ = io.Copy(heard, st)
			_, _ = st.Write(count(6))
		}, exitOK, "has confirmed it", true},
		{"another's pass", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, other.NodeID()), 1))
			_, _ = io.Copy(heard, st)
		}, exitError, "does not show for which node it acts", false},
		{"acts for another node", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(other, hostile.ID()), 1))
			_, _ = io.Copy(heard, st)
		}, exitError, "another node answered", false},
		{"half a pass", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(passOf(self, hostile.ID())[:50])
			_ = st.CloseWrite()
			_, _ = io.Copy(heard, st)
		}, exitError, "pass", false},
		{"takes it in another way", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, hostile.ID()), 2))
			_, _ = io.Copy(heard, st)
		}, exitError, "has broken off", false},
		{"confirms less", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, hostile.ID()), 1))
			_, _ = io.Copy(heard, st)
			_, _ = st.Write(count(5))
		}, exitPartly, "has written 5 bytes of 6", true},
		{"confirms nothing", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, hostile.ID()), 1))
			_, _ = io.Copy(heard, st)
		}, exitPartly, "partly done", true},
		{"breaks off", func(st *node.Stream, heard *bytes.Buffer) {
			_, _ = st.Write(append(passOf(self, hostile.ID()), 1))
			_, _ = io.Copy(heard, st)
			st.Reset(node.CodeApplication)
		}, exitPartly, "has broken off", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			heard := make(chan string, 1)
			must(t, hostile.Handle("pipe/x/1", func(_ context.Context, st *node.Stream) {
				_, _ = io.ReadFull(st, make([]byte, 96)) // the sender's pass
				var b bytes.Buffer
				tt.answer(st, &b)
				heard <- b.String()
			}))
			sender := c.member(t, "sender").redirected("< "+input).beside(t, "send", self.NodeID().String()+"@"+hostile.Addr().String(), "x")
			sender.expect(t, tt.code)
			if !strings.Contains(sender.stderr.String(), tt.says) {
				t.Errorf("it does not say %q: %s", tt.says, sender.stderr.String())
			}
			if b := <-heard; b != "" && !tt.mayHear || tt.mayHear && b != "secret" {
				t.Errorf("the other side has heard %q", b)
			}
		})
	}
}

// Members who send a listener what it must not take for input. It goes on, and takes who comes after them.
func TestHostileSender(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell for redirections")
	}
	c := newCluster(t)
	hostile := hostileNode(t, c)
	self, other := identityOf(t, "s"), identityOf(t, "o")
	bob := c.member(t, "bob")
	ready := filepath.Join(c.dir, "listen.ready")
	listener := bob.beside(t, "listen", "x", "--ready-file", ready)
	s, err := hostile.Connect(t.Context(), listener.ready(t, ready).UDP)
	must(t, err)

	for name, bad := range map[string][]byte{
		"noise":            bytes.Repeat([]byte("noise"), 100),
		"another's pass":   append(passOf(self, other.NodeID()), "input"...),
		"half a pass":      passOf(self, hostile.ID())[:50],
		"nothing":          {},
		"a key of nobody":  make([]byte, 200),
		"only a good pass": passOf(self, hostile.ID()), // and gone before its first byte
	} {
		st, err := hostile.OpenStream(t.Context(), s, "pipe/x/1")
		must(t, err)
		_, err = st.Write(bad)
		must(t, err)
		if name == "only a good pass" {
			_, err := io.ReadFull(st, make([]byte, 97)) // its pass, and that our turn has come
			must(t, err)
			st.Reset(node.CodeApplication)
			continue
		}
		_ = st.CloseWrite()
		if b, err := io.ReadAll(st); err == nil || len(b) > 0 {
			t.Errorf("%s: was answered with %d bytes, %v", name, len(b), err)
		}
	}
	input := filepath.Join(c.dir, "input")
	must(t, os.WriteFile(input, []byte("good"), 0o600))
	c.member(t, "alice").redirected("< "+input).beside(t, "send", bob.nodeID(t), "x").expect(t, exitOK)
	listener.expect(t, exitOK)
	if got := listener.stdout.String(); got != "good" {
		t.Errorf("the listener has written %q", got)
	}
}
