package transport

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// webSockets returns both ends of a connection over loopback TCP.
func webSockets(t *testing.T) (client, server *WebSocket) {
	t.Helper()
	accepted := make(chan *WebSocket, 1)
	web := httptest.NewServer(WebSocketHandler(func(w *WebSocket) { accepted <- w }))
	t.Cleanup(web.Close)
	client, err := DialWebSocket(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"))
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestWebSocketFrames(t *testing.T) {
	client, server := webSockets(t)
	want := [][]byte{[]byte("one"), bytes.Repeat([]byte("b"), MaxBatch), bytes.Repeat([]byte("c"), MaxBatch+1), bytes.Repeat([]byte("d"), maxMessage)}
	for _, p := range want {
		if err := client.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	server.Admit(nil)
	drained := make(chan struct{}, len(want))
	client.Admit(func() { drained <- struct{}{} })
	buf := make([]byte, MaxBatch)
	for i, p := range want {
		got, err := server.Receive(buf)
		if err != nil || !bytes.Equal(got, p) {
			t.Fatalf("frame %d: %d bytes, %v; want %d", i, len(got), err, len(p))
		}
	}
	for client.Queued() > 0 {
		<-drained
	}
	if !server.RemoteAddr().IsValid() || !client.RemoteAddr().IsValid() {
		t.Errorf("addresses %v and %v", server.RemoteAddr(), client.RemoteAddr())
	}
}

func TestWebSocketRefusesLongFrames(t *testing.T) {
	for size, admit := range map[int]bool{MaxBatch + 1: false, maxMessage + 1: true} {
		client, server := webSockets(t)
		if admit {
			server.Admit(nil)
		}
		if err := client.Send(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if b, err := server.Receive(make([]byte, MaxBatch)); err == nil {
			t.Errorf("a frame of %d bytes was taken", len(b))
		}
	}
}

func TestWebSocketCloseDelivers(t *testing.T) {
	client, server := webSockets(t)
	for range 20 {
		if err := client.Send(make([]byte, MaxBatch)); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	buf := make([]byte, MaxBatch)
	n := 0
	for {
		if _, err := server.Receive(buf); err != nil {
			break
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d of 20 frames arrived before the end", n)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := client.Send([]byte("x")); err == nil {
		t.Error("Send after Close")
	}
}

func TestWebSocketRefusals(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := DialWebSocket(ctx, "ws"+strings.TrimPrefix(web.URL, "http")); err == nil {
		t.Error("opened a WebSocket where there is none")
	}
	stt := httptest.NewServer(WebSocketHandler(func(w *WebSocket) { t.Error("a page request became a WebSocket") }))
	defer stt.Close()
	resp, err := http.Get(stt.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("a page request got %s", resp.Status)
	}
}
