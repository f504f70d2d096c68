package content

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seigr/sttnode/content/internal/vfs"
	"github.com/seigr/sttnode/stc"
)

const (
	partPrefix = ".sttnode-"
	partSuffix = ".part"
)

// part is what an export writes before it gets its name: a file or directory beside the target, whose own name follows from
// the root and the target, so that an export of the same to the same place finds what an interrupted one has left. It is locked
// while it is being written, where the system can.
type part struct {
	path, target string
	file         *os.File // or the directory itself, opened
	dir          bool
	keep         bool // what is in it is needed, whether it is committed or not
	committed    bool
}

// newPart makes an empty part, or goes on with the one that is there if what is in it shall be kept.
func newPart(target string, root stc.Hash, dir, keep bool) (*part, error) {
	name := append(root[:], filepath.Base(target)...)
	if keep {
		name = append(name, "/in place"...) // so that another export does not empty it
	}
	key := stc.Sum(name)
	p := &part{
		path:   filepath.Join(filepath.Dir(target), partPrefix+hex.EncodeToString(key[:8])+partSuffix),
		target: target,
		dir:    dir,
		keep:   keep,
	}
	if err := p.create(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, mapError(err))
	}
	return p, nil
}

func (p *part) create() (err error) {
	if info, err := os.Lstat(p.path); err == nil && info.IsDir() != p.dir {
		if err := os.RemoveAll(p.path); err != nil {
			return err
		}
	}
	if !p.dir {
		if p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
		if err = p.claim(); err == nil && !p.keep {
			err = p.file.Truncate(0)
		}
		return p.closeIf(err)
	}
	if err := os.Mkdir(p.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(p.path, 0o700); err != nil {
		return err
	}
	if p.file, err = os.Open(p.path); err != nil {
		return err
	}
	if err = p.claim(); err == nil && !p.keep {
		err = p.empty()
	}
	return p.closeIf(err)
}

func (p *part) closeIf(err error) error {
	if err != nil {
		p.file.Close()
	}
	return err
}

// claim locks the part and makes sure that what is locked still has its name.
func (p *part) claim() error {
	if err := lockPart(p.file, p.dir); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return errors.New("another export is writing there")
		}
		return err
	}
	mine, err := p.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(p.path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, named) {
		return errors.New("another export has been writing there")
	}
	return nil
}

// empty removes what an interrupted export has left in the directory.
func (p *part) empty() error {
	names, err := p.file.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeTree(filepath.Join(p.path, name)); err != nil {
			return err
		}
	}
	return nil
}

// removeTree removes a tree whose directories may not be writable.
func removeTree(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// commit gives the part the target's name.
func (p *part) commit(sync bool) error {
	if sync {
		if err := syncPart(p.file, p.dir); err != nil {
			return err
		}
	}
	if err := releasePart(p.file); err != nil {
		return err
	}
	if p.dir { // Only an empty one can be there.
		if err := os.Remove(p.target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(p.path, p.target); err != nil {
		return err
	}
	p.committed = true
	if sync {
		return vfs.OS{}.SyncDir(filepath.Dir(p.target))
	}
	return nil
}

// discard ends a part: what was not committed is removed, unless it is kept.
func (p *part) discard() {
	if p.committed || p.keep {
		p.file.Close()
		return
	}
	removeTree(p.path)
	p.file.Close()
}
