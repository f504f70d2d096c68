package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// runningNode is a started node and what the command line adds to it.
type runningNode struct {
	*node.Node
	app     *app
	id      stc.Hash // by which people name it
	metrics *metricsServer
	reload  func() // ends the watch for SIGHUP
}

// nodeConfig makes the configuration of the node from the common settings.
func (a *app) nodeConfig() (node.Config, error) {
	return a.networkConfig(func(cfg *node.Config) (err error) {
		if w := a.options.wsListen; w != "" {
			if _, _, err := net.SplitHostPort(w); err != nil {
				return usagef("--ws-listen: %q is not of the form host:port", w)
			}
		}
		if err := a.options.checkTLS(); err != nil {
			return err
		}
		cfg.Dir, cfg.Listen, cfg.WebSocketListen = a.options.dir, a.options.listen, a.options.wsListen
		cfg.WebSocketCert, cfg.WebSocketKey = a.options.wsCert, a.options.wsKey
		if cfg.Limits, err = a.options.limits.read(); err != nil {
			return err
		}
		cfg.Identity, err = a.loadIdentity()
		return err
	})
}

// networkConfig makes the configuration of a node of the network. Who it is,
// and where, is set by self.
func (a *app) networkConfig(self func(*node.Config) error) (node.Config, error) {
	cfg := node.Config{Logger: a.log, LAN: a.options.lan}
	for _, s := range a.options.bootstrap {
		addr, err := node.ParseAddress(s)
		if err != nil {
			return cfg, usagef("--bootstrap: %v", err)
		}
		cfg.Bootstrap = append(cfg.Bootstrap, addr)
	}
	if err := self(&cfg); err != nil {
		return cfg, err
	}
	keyring, err := a.loadKeyring()
	cfg.Keyring = keyring
	return cfg, err
}

// checkTLS refuses half of what TLS for WebSocket needs.
func (o *options) checkTLS() error {
	switch {
	case (o.wsCert == "") != (o.wsKey == ""):
		return usagef("--ws-cert and --ws-key belong together: name both files, or neither")
	case o.wsCert != "" && o.wsListen == "":
		return usagef("--ws-cert is for --ws-listen, which says where to take the connections")
	}
	return nil
}

// startNode starts a node, its metrics and its ready file. The caller stops it.
func (a *app) startNode(ctx context.Context, cfg node.Config) (*runningNode, error) {
	return a.startNodeAs(ctx, cfg, cfg.Identity.NodeID(), func(*runningNode) error { return nil })
}

// startNodeAs is startNode for a node that people know by another ID, and that
// prepare gets before others reach it.
func (a *app) startNodeAs(ctx context.Context, cfg node.Config, id stc.Hash, prepare func(*runningNode) error) (*runningNode, error) {
	n, err := node.New(cfg)
	if errors.Is(err, node.ErrAddress) {
		return nil, usagef("--listen: %v", err)
	}
	if err != nil {
		return nil, err
	}
	r := &runningNode{Node: n, app: a, id: id}
	if err := prepare(r); err != nil {
		return nil, err
	}
	// Whoever waits for the ready file must not find an earlier run's.
	old, err := hideFile(a.options.readyFile)
	if err != nil {
		return nil, fmt.Errorf("ready file: %w", err)
	}
	if err := n.Start(ctx); err != nil {
		old() // it may be that of the node that keeps this one from starting
		var listen *node.ListenError
		if errors.As(err, &listen) && listen.InUse() {
			flag := "--listen"
			if listen.WebSocket {
				flag = "--ws-listen"
			}
			return nil, fmt.Errorf("%w; choose another with %s, or port 0 for any", err, flag)
		}
		return nil, err
	}
	r.reload = onHangup(r.reloadLimits)
	if err := r.offer(); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	if advice := n.SocketBuffers().Advice(); advice != "" {
		a.note("Note: %s", advice)
	}
	a.log.Info("listening", "node", id, "udp", n.Addr(), "ws", n.WebSocketURL())
	return r, nil
}

// hideFile removes a file, if there is one, and returns what puts it back. An
// empty path is no file.
func hideFile(path string) (restore func(), err error) {
	b, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	return func() { _ = writeFileAtomic(path, b, 0o644) }, err
}

// offer begins what the settings ask for beside the node.
func (r *runningNode) offer() (err error) {
	o := &r.app.options
	if o.metrics != "" {
		if r.metrics, err = serveMetrics(o.metrics, r.Node, r.app.log); err != nil {
			return err
		}
	}
	if o.readyFile != "" {
		return writeReady(o.readyFile, readyInfo{
			NodeID:  r.id.String(),
			UDP:     r.Addr().String(),
			WS:      r.WebSocketURL(),
			Metrics: r.metrics.addr(),
		})
	}
	return nil
}

// where says where the node listens.
func (r *runningNode) where() string {
	if ws := r.WebSocketURL(); ws != "" {
		return fmt.Sprintf("UDP %v and %s", r.Addr(), ws)
	}
	return fmt.Sprintf("UDP %v", r.Addr())
}

// stop ends the node in order, within the time that a stop may take.
func (r *runningNode) stop() error {
	r.reload()
	r.metrics.close()
	// The context of the command has ended by a signal; the stop has its own
	// bound.
	return r.Stop(context.Background())
}

// join waits for the first attempt to join the network. That nobody answers yet
// is no reason to stop for a node that stays: it says so and goes on. That all
// who answer hold another seed is.
func (r *runningNode) join(ctx context.Context) error {
	err := r.Join(ctx)
	switch {
	case err == nil, errors.Is(err, node.ErrNoPeers):
		return nil
	case errors.Is(err, node.ErrWrongSeed), errors.Is(err, node.ErrResolve), ctx.Err() != nil:
		return err
	}
	r.app.warn("%s; trying on", errorText(err))
	return nil
}

// serveUntilSignal waits for the first signal, which is how a node that serves
// is stopped, and stops the node.
func (r *runningNode) serveUntilSignal(ctx context.Context) error {
	<-ctx.Done()
	r.app.note("Stopping.")
	return r.stop()
}
