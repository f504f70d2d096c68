package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seigr/sttnode/node"
)

// metricsServer serves the metrics of a node over HTTP until it is closed.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

// serveMetrics listens on addr and serves GET /metrics from a registry of its
// own.
func serveMetrics(addr string, n *node.Node, log *slog.Logger) (*metricsServer, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		node.NewCollector(n),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m := &metricsServer{
		listener: listener,
		server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelInfo),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(m.done)
		if err := m.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "err", err)
		}
	}()
	return m, nil
}

// addr is where the metrics are served; empty for a nil server.
func (m *metricsServer) addr() string {
	if m == nil {
		return ""
	}
	return m.listener.Addr().String()
}

// close ends the server and waits for it. A nil server is closed already.
func (m *metricsServer) close() {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		m.server.Close()
	}
	<-m.done
}
