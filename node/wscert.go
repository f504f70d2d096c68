package node

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is the TLS certificate of the listener for WebSocket. Files that
// have changed are read again at the next connection, so that a renewed
// certificate needs no restart. Its methods are safe for concurrent use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex // guards what follows
	stamps [2]stamp   // of the files when they were last read, in vain or not
	served *tls.Certificate
}

// stamp is how a file looked; two of one file differ once it has been written.
type stamp struct {
	size     int64
	modified time.Time
}

// loadCertificate reads a certificate chain and its key from PEM files. Errors
// wrap ErrCertificate and name the file.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	c.stamps = c.look()
	var err error
	c.served, err = c.read()
	return c, err
}

// look returns how the files are now. One that cannot be seen has a zero stamp.
func (c *certificate) look() (stamps [2]stamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return stamps
}

func (c *certificate) read() (*tls.Certificate, error) {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: key: %w", ErrCertificate, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s with the key %s: %w", ErrCertificate, c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

// get implements the GetCertificate of a tls.Config. While the files are not in
// order, as between the writing of one and of the other, the certificate that
// was read last goes on being served.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The stamps are taken before the files are read: what is written
	// meanwhile is noticed the next time.
	if now := c.look(); now != c.stamps {
		c.stamps = now
		renewed, err := c.read()
		if err != nil {
			c.log.Warn("the changed TLS certificate is not used, the last one still is", "err", err)
			return c.served, nil
		}
		c.served = renewed
		c.log.Info("TLS certificate read again", "file", c.certFile)
	}
	return c.served, nil
}

// config returns that of a server which shows the certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		GetCertificate: c.get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // a WebSocket opens by its upgrade
		// Whole records from the start: what follows is bulk, not a page.
		DynamicRecordSizingDisabled: true,
	}
}

// checkCertificate reports whether the settings for TLS make sense.
func (c *Config) checkCertificate() error {
	switch {
	case c.WebSocketCert == "" && c.WebSocketKey == "":
		return nil
	case c.WebSocketCert == "":
		return fmt.Errorf("%w: there is a key, but no certificate", ErrCertificate)
	case c.WebSocketKey == "":
		return fmt.Errorf("%w: there is no key for it", ErrCertificate)
	case c.WebSocketListen == "":
		return fmt.Errorf("%w: there is no address to take WebSocket connections at", ErrCertificate)
	}
	return nil
}
