package content

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

const (
	// nameBatch is how many names are read from a directory at a time.
	nameBatch = 1024
	// maxNames is how many names of a directory an import keeps, or twice as many: a directory with more is read again for the
	// next, so that its names take no more than about 10 MiB, whatever their number.
	maxNames = 1 << 16
)

// readNames returns the first names in a directory, sorted by their bytes, that are greater than after: keep at least and less
// than twice as many, or all; more says that there are others. It makes sure that the directory is the one that info is of.
func readNames(path string, info fs.FileInfo, after string, keep int) (names []string, more bool, err error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	now, err := d.Stat()
	if err != nil {
		return nil, false, err
	}
	if !os.SameFile(now, info) {
		return nil, false, fmt.Errorf("%w: %s has been replaced", ErrChanged, path)
	}
	for {
		batch, err := d.Readdirnames(nameBatch)
		for _, name := range batch {
			if name <= after || more && name > names[keep-1] {
				continue
			}
			names = append(names, name)
			if len(names) == 2*keep {
				// Nothing above the greatest of the first half belongs to the first names.
				slices.Sort(names)
				clear(names[keep:])
				names, more = names[:keep], true
			}
		}
		if err == io.EOF {
			slices.Sort(names)
			return names, more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}
