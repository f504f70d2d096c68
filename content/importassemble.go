package content

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/seigr/sttnode/stc"
)

// stepKind says what the assembler does.
type stepKind uint8

const (
	stepOpenDir  stepKind = iota // name, mode
	stepCloseDir                 // the directory opened last
	stepLink                     // name, target
	stepFile                     // name, mode, part: all of it
	stepBegin                    // a file in parts
	stepPart                     // part: the next
	stepRun                      // run, chunk: as many equal chunks
	stepEnd                      // name, mode, source
	stepKnown                    // name, mode, ref: a file that need not be read
)

// step is one thing in the order of the tree.
type step struct {
	kind     stepKind
	name     string
	mode     fs.FileMode
	target   string
	path     string // of an escaping link, from the root
	escaping bool
	part     *reading
	run      int64
	chunk    chunk
	source   *source
	ref      Ref
}

// assembler builds the manifest of the root.
type assembler struct {
	*importer
	put   func([]byte) (stc.Hash, error)
	dirs  []openDir // from the root down
	file  *fileTree // being read in parts
	ref   Ref       // of the root, when it is finished
	notes []pair    // on files that have been read, to be written
}

type openDir struct {
	name string
	mode fs.FileMode
	tree *dirTree
}

// assemble is the last stage. It returns the reference to the root.
func (im *importer) assemble(ctx context.Context) (Ref, error) {
	a := &assembler{importer: im, put: im.putNode(ctx)}
	for {
		var u *unit
		var ok bool
		select {
		case u, ok = <-im.units:
		case <-ctx.Done():
			return Ref{}, ctx.Err()
		}
		if !ok {
			a.saveNotes()
			return a.ref, ctx.Err()
		}
		select {
		case <-u.done:
		case <-ctx.Done():
			return Ref{}, ctx.Err()
		}
		for _, st := range u.steps {
			if err := a.step(st); err != nil {
				return Ref{}, err
			}
		}
		if err := im.puts.failed(); err != nil {
			return Ref{}, err
		}
		if im.opts.Progress != nil {
			im.opts.Progress(ImportProgress{Files: im.result.Files, Bytes: im.result.Size, Total: im.total.Load()})
		}
	}
}

func (a *assembler) step(st step) error {
	switch st.kind {
	case stepOpenDir:
		a.dirs = append(a.dirs, openDir{st.name, st.mode, &dirTree{put: a.put}})
		return nil
	case stepCloseDir:
		return a.closeDir()
	case stepLink:
		a.result.Links++
		if st.escaping {
			if a.result.EscapingCount++; len(a.result.Escaping) < maxEscapingListed {
				a.result.Escaping = append(a.result.Escaping, st.path)
			}
		}
		return a.entry(Entry{Name: st.name, Type: TypeSymlink, Target: st.target})
	case stepKnown:
		a.result.Size += st.ref.Size
		a.result.Unread += st.ref.Size
		return a.finished(st, st.ref)
	case stepFile, stepBegin:
		a.file = &fileTree{chunking: a.chunking, put: a.put}
	case stepRun:
		a.result.Size += uint64(st.run) * uint64(st.chunk.size)
		return a.run(st.chunk, st.run)
	}
	if st.part != nil {
		if err := a.part(st.part); err != nil {
			return err
		}
	}
	if st.kind == stepFile || st.kind == stepEnd {
		return a.endFile(st)
	}
	return nil
}

// part adds chunks to the file that is being read.
func (a *assembler) part(r *reading) error {
	for i, h := range r.hashes {
		if err := a.file.add(h, r.sizes[i]); err != nil {
			return err
		}
	}
	a.result.Size += uint64(r.size)
	return nil
}

// run adds a chunk n times.
func (a *assembler) run(c chunk, n int64) error {
	for range n {
		if err := a.file.add(c.hash, c.size); err != nil {
			return err
		}
	}
	return nil
}

// endFile finishes a file and puts it into its directory.
func (a *assembler) endFile(st step) (err error) {
	if st.source != nil {
		defer a.closed(st.source)
		if err := st.source.unchanged(); err != nil {
			return err
		}
	}
	source, root := st.source, a.rootInfo
	if st.part != nil {
		source = st.part.source
	}
	if len(a.dirs) > 0 {
		root = nil
	}
	ref, err := a.file.close(root)
	if err != nil {
		return err
	}
	if source != nil {
		a.remember(source, root, ref)
	}
	return a.finished(st, ref)
}

// finished puts a file into its directory.
func (a *assembler) finished(st step, ref Ref) error {
	a.result.Files++
	if len(a.dirs) == 0 {
		a.ref = ref
		return nil
	}
	return a.entry(Entry{Name: st.name, Type: TypeFile, Mode: st.mode, Ref: ref})
}

// closeDir finishes the innermost directory and puts it into the one above.
func (a *assembler) closeDir() (err error) {
	d := a.dirs[len(a.dirs)-1]
	a.dirs = a.dirs[:len(a.dirs)-1]
	a.result.Directories++
	if len(a.dirs) == 0 {
		a.ref, err = d.tree.close(a.rootInfo)
		return err
	}
	ref, err := d.tree.close(nil)
	if err != nil {
		return err
	}
	return a.entry(Entry{Name: d.name, Type: TypeDirectory, Mode: d.mode, Ref: ref})
}

// entry adds to the innermost directory.
func (a *assembler) entry(e Entry) error {
	if err := a.dirs[len(a.dirs)-1].tree.add(e); err != nil {
		return fmt.Errorf("%w, in directory %q", err, a.dirs[len(a.dirs)-1].name)
	}
	return nil
}
