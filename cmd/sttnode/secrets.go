package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/seigr/sttnode/stc"
)

// maxSeedFile is the most bytes that we take for a seed. Whatever is longer
// was named by mistake.
const maxSeedFile = 64 << 10

// readSeed reads a seed file. Three forms are told apart by their content:
// hexadecimal digits are decoded, other printable text is the seed without the
// line break at its end, and anything else is the seed as it is.
func (a *app) readSeed(path, what string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s at %s", errNotInitialised, what, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		a.warn("the %s %s can be read by others (mode %04o): chmod 600 %s", what, path, mode.Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSeedFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(b) > maxSeedFile {
		return nil, fmt.Errorf("%s: %s is longer than %d KiB: not a seed file", what, path, maxSeedFile>>10)
	}
	seed := seedBytes(b)
	if len(seed) < stc.MinSeedSize {
		return nil, fmt.Errorf("%s: %s: %w: %d bytes, at least %d are needed",
			what, path, stc.ErrSeedTooShort, len(seed), stc.MinSeedSize)
	}
	return seed, nil
}

// seedBytes returns the seed in the content of a seed file; see readSeed.
func seedBytes(b []byte) []byte {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return b
		}
	}
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	seed := make([]byte, hex.DecodedLen(len(b)))
	if n, err := hex.Decode(seed, b); err == nil {
		return seed[:n]
	}
	return b
}

// createSeed makes a seed file with 32 random bytes in hexadecimal, readable
// by its owner only. It reports false and changes nothing if path exists. No
// other process ever sees a part of a seed.
func createSeed(path string) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	seed := make([]byte, stc.MinSeedSize)
	rand.Read(seed)
	tmp, err := writeTemp(path, append(hex.AppendEncode(nil, seed), '\n'), 0o600)
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp)
	// A link never replaces what another process made meanwhile.
	if err := os.Link(tmp, path); err == nil {
		return true, syncDir(filepath.Dir(path))
	} else if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	// A file system without links.
	if err := os.Rename(tmp, path); err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

// writeFileAtomic makes data the content of path, at once or not at all.
func writeFileAtomic(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeTemp writes data, synced, to a new file beside path.
func writeTemp(path string, data []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(mode); err != nil && runtime.GOOS != "windows" {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// syncDir makes the names in a directory durable where the system can.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync() // some file systems refuse it and need it not
	return nil
}

// loadIdentity reads the node seed of the directory.
func (a *app) loadIdentity() (*stc.Identity, error) {
	seed, err := a.readSeed(home(a.options.dir).nodeSeed(), "node seed")
	if errors.Is(err, errNotInitialised) {
		return nil, fmt.Errorf("%w; run: sttnode init --dir %s", err, a.options.dir)
	}
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return stc.NewIdentity(seed)
}

// loadKeyring reads the network's shared seed.
func (a *app) loadKeyring() (*stc.Keyring, error) {
	seed, err := a.readSeed(a.options.sharedSeedPath(), "shared seed")
	if errors.Is(err, errNotInitialised) {
		return nil, fmt.Errorf("%w; get the file from somebody in the network and name it with --shared-seed-file, or begin a network: sttnode init", err)
	}
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return stc.NewKeyring(seed)
}
