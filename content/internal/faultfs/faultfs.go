// Package faultfs is a file system in memory for tests. It forgets what was not synced, tears what was being written, fills up,
// and fails when it is told to. It is stricter than any real one: a file's name lasts only when its directory was synced, and
// what a failed sync was to save is lost, though it still reads back.
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/seigr/sttnode/content/internal/vfs"
)

// ErrCrashed is what every call returns behind Crash.
var ErrCrashed = errors.New("faultfs: the machine is off")

const pageSize = 4096

// Op is a kind of call that can fail.
type Op uint8

const (
	Write  Op = iota // WriteAt, Truncate, Allocate
	Sync             // of a file
	Create           // also Rename and SyncDir
	numOps
)

// FS is the file system. Safe for concurrent use.
type FS struct {
	mu      sync.Mutex
	rand    *rand.Rand
	dirs    map[string]*dir
	locks   map[string]bool
	crashed bool
	room    int // pages left; negative: no limit

	counts [numOps]int
	faults [numOps]fault
	hook   func()
	hookAt int
	gates  [numOps]*gate
}

// gate stops one call.
type gate struct {
	after   int // calls that pass before
	reached chan struct{}
	open    chan struct{}
}

type fault struct {
	at     int // count of the call that fails; 0: none
	err    error
	sticky bool
}

type dir struct {
	names   map[string]*inode
	durable map[string]*inode
	changes []func(map[string]*inode) // to names since the last sync
}

// inode is a file's bytes as they read, and as they are on the disk.
type inode struct {
	data    []byte
	durable []byte
	changes []change
	pages   map[int]bool // that take room
	// allocated is what the file is long at least. Nobody reads what was only allocated, so it is not in data.
	allocated int
	links     int // names that it has
}

// change is something done to a file since its last sync.
type change struct {
	off  int
	data []byte // nil: the file was cut at off, or a hole of size bytes made there
	size int    // of a hole; -1 for a cut
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty file system whose choices follow from the seed.
func New(seed uint64) *FS {
	return &FS{
		rand: rand.New(rand.NewPCG(seed, 0xfa17)),
		dirs: make(map[string]*dir), locks: make(map[string]bool), room: -1,
	}
}

// SetRoom leaves n bytes free; negative for no limit.
func (f *FS) SetRoom(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room = n / pageSize; n < 0 {
		f.room = -1
	}
}

// Fail makes the n-th call of a kind from now, counted from 1, fail with err, and all later ones if sticky. n = 0 ends it.
func (f *FS) Fail(op Op, n int, err error, sticky bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[op] = 0
	f.faults[op] = fault{n, err, sticky}
}

// Count returns how many calls of a kind there were since the last Fail for it.
func (f *FS) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// Hold stops the n-th call of a kind from now, counted from 1. reached is closed when it is there; it goes on with release.
func (f *FS) Hold(op Op, n int) (reached <-chan struct{}, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := &gate{n - 1, make(chan struct{}), make(chan struct{})}
	f.gates[op] = g
	return g.reached, func() { close(g.open) }
}

// pass waits at a gate. The caller holds mu, which is free meanwhile.
func (f *FS) pass(op Op) {
	g := f.gates[op]
	if g == nil {
		return
	}
	if g.after--; g.after >= 0 {
		return
	}
	f.gates[op] = nil
	f.mu.Unlock()
	close(g.reached)
	<-g.open
	f.mu.Lock()
}

// CrashAt makes the machine lose its power before the n-th write or sync from now, and then calls then.
func (f *FS) CrashAt(n int, then func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hookAt, f.hook = n, then
}

// step counts a call. The caller holds mu.
func (f *FS) step(op Op) error {
	f.pass(op)
	if f.hookAt > 0 {
		if f.hookAt--; f.hookAt == 0 {
			f.crashed = true
			go f.hook()
		}
	}
	if f.crashed {
		return ErrCrashed
	}
	f.counts[op]++
	if x := f.faults[op]; x.at > 0 && (f.counts[op] == x.at || x.sticky && f.counts[op] > x.at) {
		return x.err
	}
	return nil
}

// Crash takes the power away. Calls fail from now on.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// lookup returns the directory of a name and its base. The caller holds mu.
func (f *FS) lookup(name string) (*dir, string, error) {
	d := f.dirs[filepath.Dir(name)]
	if d == nil {
		return nil, "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return d, filepath.Base(name), nil
}

// change changes the names of a directory, durably once it is synced.
func (d *dir) change(c func(map[string]*inode)) {
	c(d.names)
	d.changes = append(d.changes, c)
}

// Open implements vfs.FS.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

// OpenWrite implements vfs.FS.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, true) }

func (f *FS) open(name string, write bool) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	d, base, err := f.lookup(name)
	if err != nil {
		return nil, err
	}
	node := d.names[base]
	if node == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{fs: f, node: node, write: write}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Create); err != nil {
		return nil, err
	}
	d, base, err := f.lookup(name)
	if err != nil {
		return nil, err
	}
	node := d.names[base]
	if node == nil {
		node = &inode{pages: make(map[int]bool), links: 1}
		d.change(func(names map[string]*inode) { names[base] = node })
	} else {
		f.do(node, change{size: -1})
	}
	return &file{fs: f, node: node, write: true}, nil
}

// MkdirAll implements vfs.FS. Directories last at once.
func (f *FS) MkdirAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Create); err != nil {
		return err
	}
	for ; f.dirs[name] == nil; name = filepath.Dir(name) {
		f.dirs[name] = &dir{names: make(map[string]*inode), durable: make(map[string]*inode)}
	}
	return nil
}

// ReadDir implements vfs.FS.
func (f *FS) ReadDir(name string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	d := f.dirs[name]
	if d == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	var names []string
	for base := range d.names {
		names = append(names, base)
	}
	for sub := range f.dirs {
		if sub != name && filepath.Dir(sub) == name {
			names = append(names, filepath.Base(sub))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	if d := f.dirs[name]; d != nil {
		if len(d.names) > 0 {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		delete(f.dirs, name)
		return nil
	}
	d, base, err := f.lookup(name)
	if err != nil {
		return err
	}
	node := d.names[base]
	if node == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.change(func(names map[string]*inode) { delete(names, base) })
	f.unlink(node)
	return nil
}

func (f *FS) unlink(node *inode) {
	if node.links--; node.links == 0 && f.room >= 0 {
		f.room += len(node.pages)
	}
}

// Rename implements vfs.FS, for files in one directory and for directories.
func (f *FS) Rename(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Create); err != nil {
		return err
	}
	if d := f.dirs[oldName]; d != nil {
		if f.dirs[newName] != nil {
			return &fs.PathError{Op: "rename", Path: newName, Err: fs.ErrExist}
		}
		f.dirs[newName] = d
		delete(f.dirs, oldName)
		return nil
	}
	d, oldBase, err := f.lookup(oldName)
	if err != nil {
		return err
	}
	node, newBase := d.names[oldBase], filepath.Base(newName)
	if node == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	if replaced := d.names[newBase]; replaced != nil {
		f.unlink(replaced)
	}
	d.change(func(names map[string]*inode) {
		delete(names, oldBase)
		names[newBase] = node
	})
	return nil
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Create); err != nil {
		return err
	}
	d := f.dirs[name]
	if d == nil {
		return &fs.PathError{Op: "sync", Path: name, Err: fs.ErrNotExist}
	}
	for _, change := range d.changes {
		change(d.durable)
	}
	d.changes = nil
	return nil
}

type unlocker func()

func (u unlocker) Close() error {
	u()
	return nil
}

// Lock implements vfs.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	if f.locks[name] {
		return nil, vfs.ErrLocked
	}
	f.locks[name] = true
	return unlocker(func() {
		f.mu.Lock()
		delete(f.locks, name)
		f.mu.Unlock()
	}), nil
}

// Files returns the names of all files, sorted.
func (f *FS) Files() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for path, d := range f.dirs {
		for base := range d.names {
			names = append(names, filepath.Join(path, base))
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}

// Damage changes the bytes of a file behind everybody's back, and on the disk.
func (f *FS) Damage(name string, change func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, base, err := f.lookup(name)
	if err != nil || d.names[base] == nil {
		panic("faultfs: no file " + name)
	}
	node := d.names[base]
	node.data = change(slices.Clone(node.data))
	node.durable = slices.Clone(node.data)
	node.changes = nil
}
