// A file over streams: Alice sends one file on each of three streams of one
// session, at the same time. Bob writes what comes and answers with its hash,
// by which Alice sees that all of it has arrived.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/seigr/sttnode/examples/internal/loopback"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

func main() {
	ctx := context.Background()
	network := loopback.Network()
	alice, bob := loopback.Start(network), loopback.Start(network)
	defer alice.Stop(ctx)
	defer bob.Stop(ctx)
	dir, err := os.MkdirTemp("", "example-file-")
	loopback.Check(err)
	defer os.RemoveAll(dir)

	loopback.Check(bob.Handle("file/1", func(ctx context.Context, st *node.Stream) { receive(st, dir) }))

	session, err := alice.Connect(ctx, bob.Addr().String())
	loopback.Check(err)
	var sending sync.WaitGroup
	for i := range 3 {
		sending.Go(func() {
			content := make([]byte, 5<<20) // longer than any frame: it is cut and put together again
			rand.Read(content)
			st, err := alice.OpenStream(ctx, session, "file/1")
			loopback.Check(err)
			defer st.Close()
			loopback.Check(send(st, fmt.Sprintf("file%d", i), content))
		})
	}
	sending.Wait()
	entries, err := os.ReadDir(dir)
	loopback.Check(err)
	for _, e := range entries {
		info, err := e.Info()
		loopback.Check(err)
		fmt.Printf("Bob has %s, %d bytes, and they are the right ones\n", e.Name(), info.Size())
	}
}

// send writes the file's name as a message, then its bytes, and waits for the
// hash of what has arrived.
func send(st *node.Stream, name string, content []byte) error {
	if err := st.SendMessage([]byte(name)); err != nil {
		return err
	}
	if _, err := io.Copy(st, bytes.NewReader(content)); err != nil {
		return err
	}
	if err := st.CloseWrite(); err != nil { // Bob reads io.EOF there
		return err
	}
	var hash stc.Hash
	if _, err := io.ReadFull(st, hash[:]); err != nil {
		return err
	}
	if hash != stc.Sum(content) {
		return fmt.Errorf("%s: something else has arrived", name)
	}
	return nil
}

// receive is the other end of send.
func receive(st *node.Stream, dir string) {
	name, err := st.ReceiveMessage(255)
	if err != nil {
		return
	}
	f, err := os.Create(filepath.Join(dir, filepath.Base(string(name))))
	loopback.Check(err)
	defer f.Close()
	h := stc.NewHash()
	if _, err := io.Copy(io.MultiWriter(f, h), st); err != nil {
		return // reset, or the session was lost: no hash, and Alice knows
	}
	_, _ = st.Write(h.Sum(nil))
}
