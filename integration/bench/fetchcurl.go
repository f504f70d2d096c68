package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// roleWeb is the first argument of a process that serves a directory over HTTPS.
const roleWeb = "process-web"

// web is that process: `process-web DIR`. It prints where it listens, and what it has used for each line on its stdin.
func web(args []string) error {
	if len(args) != 1 {
		return errors.New("web process: DIR")
	}
	cfg, err := serverTLS()
	if err != nil {
		return err
	}
	cfg.NextProtos = []string{"http/1.1"} // which curl gets through sooner than HTTP/2
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(args[0]))}
	go func() { _ = server.Serve(tls.NewListener(l, cfg)) }()
	defer func() { _ = server.Shutdown(context.Background()) }()
	fmt.Println(l.Addr())
	out, in := json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := out.Encode(fetchRun{CPU: cpuSeconds(), Peak: peakBytes()}); err != nil {
			return err
		}
	}
	return in.Err()
}

// curl fetches the content over HTTPS into a file.
func (b *fetchBed) curl() (m fetchRun, err error) {
	file, err := b.content(b.mib)
	if err != nil {
		return m, err
	}
	server, err := start("", roleWeb, filepath.Dir(file))
	if err != nil {
		return m, err
	}
	defer server.stop()
	addr, err := server.line()
	if err != nil {
		return m, err
	}
	out := b.fresh("fetched")
	r, err := command(nil, "curl", "--insecure", "--silent", "--show-error", "--tlsv1.3", "--output", out, "https://"+addr+"/"+filepath.Base(file))
	if err != nil {
		return m, err
	}
	var served fetchRun
	if err := server.ask("usage", &served); err != nil {
		return m, err
	}
	m = fetchRun{Seconds: r.Seconds, CPU: r.CPU + served.CPU, Peak: r.Peak, SeederPeak: served.Peak, Bytes: b.mib << 20}
	return m, exec.Command("cmp", "--silent", file, out).Run()
}
