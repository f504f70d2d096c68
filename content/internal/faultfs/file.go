package faultfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// file is an open file.
type file struct {
	fs    *FS
	node  *inode
	write bool
}

// do changes a file. The caller holds mu.
func (f *FS) do(node *inode, c change) {
	node.data = c.apply(node.data)
	node.changes = append(node.changes, c)
	switch {
	case c.data == nil && c.size < 0:
		node.allocated = min(node.allocated, c.off)
		f.free(node, (c.off+pageSize-1)/pageSize, 1<<40)
	case c.data == nil:
		f.free(node, (c.off+pageSize-1)/pageSize, (c.off+c.size)/pageSize)
	}
}

// free gives back the pages of a file from first to below last.
func (f *FS) free(node *inode, first, last int) {
	for page := range node.pages {
		if page >= first && page < last {
			delete(node.pages, page)
			if f.room >= 0 && node.links > 0 {
				f.room++
			}
		}
	}
}

// take takes the pages for a range and returns how much of it fits. The caller holds mu.
func (f *FS) take(node *inode, off, size int) int {
	for page := off / pageSize; page <= (off+size-1)/pageSize && size > 0; page++ {
		if node.pages[page] {
			continue
		}
		if f.room == 0 {
			return max(0, page*pageSize-off)
		}
		node.pages[page] = true
		if f.room > 0 {
			f.room--
		}
	}
	return size
}

func (h *file) WriteAt(b []byte, off int64) (int, error) {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if !h.write {
		return 0, fs.ErrPermission
	}
	err := f.step(Write)
	if err == ErrCrashed {
		return 0, err
	}
	n := len(b)
	if err != nil && n > 0 {
		n = f.rand.IntN(n)
	}
	if fits := f.take(h.node, int(off), n); fits < n {
		n = fits
		if err == nil {
			err = syscall.ENOSPC
		}
	}
	if n > 0 {
		f.do(h.node, change{off: int(off), data: slices.Clone(b[:n])})
	}
	return n, err
}

func (h *file) ReadAt(b []byte, off int64) (int, error) {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return 0, ErrCrashed
	}
	if off >= int64(len(h.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) Sync() error {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.step(Sync)
	if err == ErrCrashed {
		return err
	}
	if err == nil {
		for _, c := range h.node.changes {
			h.node.durable = c.apply(h.node.durable)
		}
	}
	h.node.changes = nil
	return err
}

func (h *file) Truncate(size int64) error {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Write); err != nil {
		return err
	}
	if int(size) != len(h.node.data) {
		f.do(h.node, change{off: int(size), size: -1})
	}
	return nil
}

func (h *file) PunchHole(off, size int64) error {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	f.do(h.node, change{off: int(off), size: int(size)})
	return nil
}

func (h *file) Allocate(size int64) error {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(Write); err != nil {
		return err
	}
	if f.take(h.node, 0, int(size)) < int(size) {
		return syscall.ENOSPC
	}
	h.node.allocated = max(h.node.allocated, int(size))
	return nil
}

func (h *file) Size() (int64, error) {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return 0, ErrCrashed
	}
	return int64(max(len(h.node.data), h.node.allocated)), nil
}

func (h *file) Close() error { return nil }
