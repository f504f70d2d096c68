package content

import (
	"fmt"
	"path"
	"strings"
)

// exclusion decides what of a tree an import leaves out.
type exclusion []excludePattern

// excludePattern is a pattern, cut at its slashes.
type excludePattern struct {
	elems   []string // "**" stands for any number of names
	dirOnly bool
}

// newExclusion reads the patterns of ImportOptions.Exclude.
func newExclusion(patterns []string) (exclusion, error) {
	var x exclusion
	for _, text := range patterns {
		p, err := parseExclude(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrPattern, text, err)
		}
		x = append(x, p)
	}
	return x, nil
}

func parseExclude(text string) (p excludePattern, err error) {
	if strings.HasPrefix(text, "!") {
		return p, fmt.Errorf("what is excluded can't be included again; write \\! where a name begins so")
	}
	body, dirOnly := strings.CutSuffix(text, "/")
	p.dirOnly = dirOnly
	if !strings.Contains(body, "/") {
		p.elems = append(p.elems, "**")
	}
	for elem := range strings.SplitSeq(strings.TrimPrefix(body, "/"), "/") {
		if elem == "" || elem == "." || elem == ".." {
			return p, fmt.Errorf("%q is not the name of anything", elem)
		}
		elem = negations(elem)
		if _, err := path.Match(elem, ""); err != nil {
			return p, err
		}
		if n := len(p.elems); elem == "**" && n > 0 && p.elems[n-1] == "**" {
			continue
		}
		p.elems = append(p.elems, elem)
	}
	return p, nil
}

// negations writes [!x] as [^x], which is what package path understands.
func negations(elem string) string {
	b := []byte(elem)
	for i := 0; i+1 < len(b); i++ {
		switch {
		case b[i] == '\\':
			i++
		case b[i] == '[' && b[i+1] == '!':
			b[i+1] = '^'
		}
	}
	return string(b)
}

// match reports whether to leave out what has this path from the root of the import, with slashes.
func (x exclusion) match(rel string, dir bool) bool {
	if len(x) == 0 {
		return false
	}
	names := strings.Split(rel, "/")
	for _, p := range x {
		if (dir || !p.dirOnly) && matchNames(p.elems, names) {
			return true
		}
	}
	return false
}

// matchNames reports whether a pattern fits all of a path.
func matchNames(elems, names []string) bool {
	for ; len(elems) > 0; elems, names = elems[1:], names[1:] {
		if elems[0] == "**" {
			if len(elems) == 1 {
				return len(names) > 0
			}
			for i := range names {
				if matchNames(elems[1:], names[i:]) {
					return true
				}
			}
			return false
		}
		if len(names) == 0 {
			return false
		}
		if ok, _ := path.Match(elems[0], names[0]); !ok { // the pattern is well formed
			return false
		}
	}
	return len(names) == 0
}

// Selection says which entries of a tree are meant. The zero Selection, and a nil one, mean all of them.
type Selection struct{ include, exclude exclusion }

// NewSelection returns the selection of what a pattern of include fits, all if there is none, without what one of exclude fits.
// Patterns are those of [ImportOptions].Exclude; one that fits a directory is for everything in it. Errors wrap ErrPattern.
func NewSelection(include, exclude []string) (*Selection, error) {
	in, err := newExclusion(include)
	if err != nil {
		return nil, err
	}
	out, err := newExclusion(exclude)
	return &Selection{in, out}, err
}

// Excludes reports whether an entry, and what is below it, is left out whatever else is said.
func (s *Selection) Excludes(rel string, dir bool) bool { return s != nil && s.exclude.match(rel, dir) }

// Includes reports whether an entry is meant that is not excluded: it, or a directory that it is in, is included.
func (s *Selection) Includes(rel string, dir bool) bool {
	if s == nil || len(s.include) == 0 || s.include.match(rel, dir) {
		return true
	}
	for i := range len(rel) {
		if rel[i] == '/' && s.include.match(rel[:i], true) {
			return true
		}
	}
	return false
}
