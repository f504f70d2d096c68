package content

import (
	"context"
	"os"
	"path/filepath"
	"sync"
)

// measureBeside begins to find out how much there is to import below a directory. stop ends that, and waits.
func (im *importer) measureBeside(ctx context.Context, path string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if total := im.measure(ctx, path, ""); ctx.Err() == nil {
			im.total.Store(total)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// measure adds up the sizes of the files below a directory, so that the progress of an import can be told in parts of the whole.
// rel is the directory's path from the root, as the patterns see it, and ends with a slash but for the root. What can't be read,
// the import reports.
func (im *importer) measure(ctx context.Context, path, rel string) (total uint64) {
	d, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer d.Close()
	for ctx.Err() == nil {
		infos, err := d.Readdir(nameBatch)
		for _, info := range infos {
			name := rel + info.Name()
			switch {
			case im.exclude.match(name, info.IsDir()):
			case info.IsDir():
				total += im.measure(ctx, filepath.Join(path, info.Name()), name+"/")
			case info.Mode().IsRegular():
				total += uint64(info.Size())
			}
		}
		if err != nil || len(infos) == 0 {
			break // io.EOF, or what the import reports
		}
	}
	return total
}
