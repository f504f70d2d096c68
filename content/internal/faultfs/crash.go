package faultfs

import "slices"

// AfterCrash returns what the disk holds: everything synced, and of the rest what chance has left of it.
func (f *FS) AfterCrash() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := New(f.rand.Uint64())
	survivors := make(map[*inode]*inode)
	for name, d := range f.dirs {
		// Names persist in the order of their changes: as many as chance wants.
		names := d.durable
		for _, change := range d.changes[:f.rand.IntN(len(d.changes)+1)] {
			change(names)
		}
		nd := &dir{names: make(map[string]*inode), durable: make(map[string]*inode)}
		for base, node := range names {
			survivor := survivors[node]
			if survivor == nil {
				survivor = f.survive(node)
				survivors[node] = survivor
			}
			survivor.links++
			nd.names[base], nd.durable[base] = survivor, survivor
		}
		out.dirs[name] = nd
	}
	return out
}

// survive returns what is left of a file: of the changes since its sync each page, or part of one, by itself.
func (f *FS) survive(node *inode) *inode {
	data := slices.Clone(node.durable)
	keepAll, keepNone := f.rand.IntN(4) == 0, f.rand.IntN(4) == 0
	for _, c := range node.changes {
		if keepNone {
			break
		}
		switch {
		case c.data != nil:
			for off := 0; off < len(c.data); {
				n := min(len(c.data)-off, pageSize-(c.off+off)%pageSize)
				piece := c.data[off : off+n]
				if !keepAll {
					switch f.rand.IntN(4) {
					case 0:
						piece = nil
					case 1: // torn
						piece = piece[:f.rand.IntN(len(piece)+1)]
					}
				}
				data = put(data, c.off+off, piece)
				off += n
			}
		case keepAll || f.rand.IntN(2) == 0:
			data = c.apply(data)
		}
	}
	return &inode{data: data, durable: slices.Clone(data), pages: make(map[int]bool)}
}

func put(data []byte, off int, b []byte) []byte {
	if len(b) == 0 {
		return data
	}
	if grow := off + len(b) - len(data); grow > 0 {
		data = append(data, make([]byte, grow)...)
	}
	copy(data[off:], b)
	return data
}

func (c change) apply(data []byte) []byte {
	switch {
	case c.data != nil:
		return put(data, c.off, c.data)
	case c.size < 0 && c.off <= len(data):
		return data[:c.off]
	case c.size < 0:
		return append(data, make([]byte, c.off-len(data))...)
	case c.off < len(data):
		clear(data[c.off:min(len(data), c.off+c.size)])
	}
	return data
}
