package main

import (
	"context"
	"fmt"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// parts reads the flags that ask for a part of a content.
func (f *fetchFlags) parts() (*node.ByteRange, error) {
	if _, err := content.NewSelection(f.include, f.exclude); err != nil {
		return nil, usagef("--include, --exclude: %s", errorText(err))
	}
	selective := len(f.include)+len(f.exclude) > 0
	ranged := f.byteRange != ""
	switch {
	case (selective || ranged) && f.inPlace:
		return nil, usagef("--in-place is for all of a content")
	case selective && !ranged && f.output == "-":
		return nil, usagef("what is selected of a tree can't go to standard output, only a --range of one file")
	case f.dryRun && (ranged || f.serve):
		return nil, usagef("--dry-run fetches nothing: it goes with --include and --exclude only")
	case !ranged:
		return nil, nil
	case f.output == "":
		return nil, usagef("--range needs -o PATH or -o -, as the name stands for all of the file")
	}
	r, err := node.ParseByteRange(f.byteRange)
	if err != nil {
		return nil, usagef("--range: %s", errorText(err))
	}
	return &r, nil
}

// Events of fetch --dry-run --json.
type (
	fileEvent struct {
		Event string `json:"event"`
		Path  string `json:"path"`
		Type  string `json:"type"`
		Bytes uint64 `json:"bytes"`
		Mode  string `json:"mode,omitempty"`
	}
	listedEvent struct {
		Event     string `json:"event"`
		Hash      string `json:"hash"`
		Name      string `json:"name,omitempty"`
		Directory bool   `json:"directory"`
		Bytes     uint64 `json:"bytes"`
		Files     uint64 `json:"files"`
	}
)

// entryTypes are the words for what is in a tree.
var entryTypes = map[content.EntryType]string{
	content.TypeFile: "file", content.TypeDirectory: "directory", content.TypeSymlink: "link",
}

// list says what a fetch would bring.
func (n *runningNode) list(ctx context.Context, root stc.Hash, opts node.FetchOptions) error {
	a := n.app
	l, err := n.List(ctx, root, opts, func(p content.Placed) error {
		path := p.Path
		if path == "" {
			path = p.Name
		}
		switch {
		case a.options.json:
			e := fileEvent{Event: "file", Path: path, Type: entryTypes[p.Type], Bytes: p.Ref.Size}
			if p.Type != content.TypeSymlink {
				e.Mode = fmt.Sprintf("%04o", p.Mode)
			}
			a.emit(e)
		case p.Type == content.TypeFile:
			fmt.Fprintf(a.stdout, "%12d  %s\n", p.Ref.Size, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.options.json {
		a.emit(listedEvent{"listed", root.String(), l.Name, l.Directory, l.Bytes, l.Files})
	}
	a.note("%s in %s.", humanBytes(l.Bytes), plural(l.Files, "file"))
	return nil
}
