package content

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"github.com/seigr/sttnode/stc"
)

// FS shows a stored content as a file system that can be read: an fs.FS, fs.ReadDirFS, fs.StatFS and fs.ReadLinkFS, whose files
// are *File. It is safe for concurrent use.
//
// Symbolic links are followed inside the content; one that leads out of it can be looked at, and opening it fails. Only what is
// asked for is read, and memory is bounded: an open directory is read on as its ReadDir is called.
type FS struct {
	store *Store
	root  entryInfo  // a directory
	only  *entryInfo // in it, if the content is a file
	nodes nodeCache
}

const (
	fsNodes = 8 // kept by an FS
	// maxLinks is how many symbolic links one name may lead through, as in Linux.
	maxLinks = 40
)

var (
	errEscapes      = errors.New("symbolic link leads out of the content")
	errTooManyLinks = errors.New("too many levels of symbolic links")
)

// FS returns the content under root as a file system. A content that is a single file is a directory with that file in it, under
// its suggested name, or else its hash. Errors: ErrNotFound, ErrCorrupt, ErrManifest.
func (s *Store) FS(root stc.Hash) (*FS, error) {
	node, err := s.root(root)
	if err != nil {
		return nil, err
	}
	f := &FS{store: s, nodes: newNodeCache(s, fsNodes)}
	f.root = entryInfo{Entry{Name: ".", Type: TypeDirectory, Mode: node.Root.Mode}, node}
	if node.Kind == KindFile {
		file := rootFile(root, node)
		f.only = &file
		f.root = entryInfo{Entry{Name: ".", Type: TypeDirectory, Mode: 0o555}, &Node{Kind: KindDirectory, entries: []Entry{file.entry}}}
	}
	return f, nil
}

// Open implements fs.FS.
func (f *FS) Open(name string) (fs.File, error) {
	e, err := f.lookup("open", name, true)
	if err != nil {
		return nil, err
	}
	if e.IsDir() {
		return &openDirectory{fsys: f, name: name, info: e}, nil
	}
	return f.store.newFile(e), nil
}

// Stat implements fs.StatFS.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.info("stat", name, true) }

// Lstat implements fs.ReadLinkFS.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.info("lstat", name, false) }

func (f *FS) info(op, name string, follow bool) (fs.FileInfo, error) {
	e, err := f.lookup(op, name, follow)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// ReadLink implements fs.ReadLinkFS.
func (f *FS) ReadLink(name string) (string, error) {
	e, err := f.lookup("readlink", name, false)
	if err != nil {
		return "", err
	}
	if e.entry.Type != TypeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return e.entry.Target, nil
}

// ReadDir implements fs.ReadDirFS. It holds all entries at once; a directory that is opened need not.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.lookup("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errNotDirectory}
	}
	d := &openDirectory{fsys: f, name: name, info: e}
	return d.ReadDir(-1)
}

// lookup finds what a name stands for. A symbolic link at its end is followed if follow says so.
func (f *FS) lookup(op, name string, follow bool) (entryInfo, error) {
	fail := func(err error) (entryInfo, error) { return entryInfo{}, &fs.PathError{Op: op, Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return fail(fs.ErrInvalid)
	}
	path := []entryInfo{f.root} // to where we are, links resolved
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		elem := rest[0]
		rest = rest[1:]
		here := path[len(path)-1]
		switch {
		case !here.IsDir():
			return fail(errNotDirectory)
		case elem == "." || elem == "":
			continue
		case elem == "..": // only in the targets of links
			if len(path) == 1 {
				return fail(errEscapes)
			}
			path = path[:len(path)-1]
			continue
		}
		e, err := f.find(here, elem)
		if err != nil {
			return fail(err)
		}
		if e.entry.Type != TypeSymlink || len(rest) == 0 && !follow {
			path = append(path, e)
			continue
		}
		if links++; links > maxLinks {
			return fail(errTooManyLinks)
		}
		if strings.HasPrefix(e.entry.Target, "/") {
			return fail(errEscapes)
		}
		rest = append(strings.Split(e.entry.Target, "/"), rest...)
	}
	return path[len(path)-1], nil
}

// find looks a name up in a directory: fs.ErrNotExist if it is not there.
func (f *FS) find(dir entryInfo, name string) (entryInfo, error) {
	n, err := f.nodes.top(dir)
	for err == nil && n.Level > 0 {
		// Below the last reference whose first name is not greater.
		i := sort.Search(n.Len(), func(i int) bool { return n.Child(i).FirstName() > name })
		if i == 0 {
			return entryInfo{}, fs.ErrNotExist
		}
		n, err = f.nodes.load(n.Child(i - 1))
	}
	if err != nil {
		return entryInfo{}, err
	}
	entries := n.Entries()
	i, ok := slices.BinarySearchFunc(entries, name, func(e Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return entryInfo{}, fs.ErrNotExist
	}
	return f.entry(entries[i]), nil
}

// entry makes an entryInfo of an entry.
func (f *FS) entry(e Entry) entryInfo {
	if f.only != nil {
		return *f.only
	}
	return entryInfo{entry: e}
}

// openDirectory is an fs.ReadDirFile. It holds the path to the leaf that is being read.
type openDirectory struct {
	fsys   *FS
	name   string
	info   entryInfo
	begun  bool
	closed bool
	path   []dirPosition // the last is what is read next
}

type dirPosition struct {
	node *Node
	next int // entry of a leaf, or child
}

func (d *openDirectory) Stat() (fs.FileInfo, error) { return d.info, nil }

func (d *openDirectory) Read([]byte) (int, error) {
	return 0, d.fail("read", errors.New("is a directory"))
}

func (d *openDirectory) Close() error {
	d.closed = true
	return nil
}

func (d *openDirectory) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: d.name, Err: err}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDirectory) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, d.fail("readdir", fs.ErrClosed)
	}
	var list []fs.DirEntry
	for n <= 0 || len(list) < n {
		e, err := d.next()
		switch {
		case err == io.EOF && (n <= 0 || len(list) > 0):
			return list, nil
		case err == io.EOF:
			return nil, io.EOF
		case err != nil:
			return list, d.fail("readdir", err)
		}
		list = append(list, d.fsys.entry(e))
	}
	return list, nil
}

// next returns the next entry, or io.EOF.
func (d *openDirectory) next() (Entry, error) {
	if !d.begun {
		top, err := d.fsys.nodes.top(d.info)
		if err != nil {
			return Entry{}, err
		}
		d.begun, d.path = true, []dirPosition{{node: top}}
	}
	for len(d.path) > 0 {
		at := &d.path[len(d.path)-1]
		i := at.next
		switch {
		case at.node.Level == 0 && i < len(at.node.Entries()):
			at.next++
			return at.node.Entries()[i], nil
		case at.node.Level > 0 && i < at.node.Len():
			child, err := d.fsys.nodes.load(at.node.Child(i))
			if err != nil {
				return Entry{}, err
			}
			at.next++
			d.path = append(d.path, dirPosition{node: child})
		default:
			d.path = d.path[:len(d.path)-1]
		}
	}
	return Entry{}, io.EOF
}
