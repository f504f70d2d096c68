package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	tableFileName = "dht.table"
	// maxTableFile bounds what is read of the file.
	maxTableFile = 4 << 20
	// saveTableEvery is how often the table is saved while the node runs, so
	// that one that is killed finds its way back as well.
	saveTableEvery = 10 * time.Minute
)

// restoreTable reads the routing table of an earlier run, and reports whether
// it names any node. A file that is missing or damaged is no error: the
// bootstrap addresses do.
func (n *Node) restoreTable() bool {
	b, err := readLimited(n.tablePath(), maxTableFile)
	restored := 0
	if err == nil {
		restored, err = n.dht.RestoreTable(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn("the saved routing table is not used", "err", err)
	}
	return restored > 0
}

func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

// saveTable writes the routing table beside its file and renames it.
func (n *Node) saveTable() error {
	b, err := n.dht.MarshalTable()
	if err == nil {
		tmp := n.tablePath() + ".tmp"
		if err = os.WriteFile(tmp, b, 0o600); err == nil {
			err = os.Rename(tmp, n.tablePath())
		}
	}
	if err != nil {
		return fmt.Errorf("node: save routing table: %w", err)
	}
	return nil
}

// saveTableLoop saves the routing table now and then.
func (n *Node) saveTableLoop() {
	for n.sleep(saveTableEvery) {
		if err := n.saveTable(); err != nil {
			n.log.Warn("routing table not saved", "err", err)
		}
	}
}

func (n *Node) tablePath() string { return filepath.Join(n.cfg.Dir, tableFileName) }
