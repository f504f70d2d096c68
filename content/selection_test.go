package content

import (
	"errors"
	"testing"
)

func TestSelection(t *testing.T) {
	s, err := NewSelection([]string{"*.flac", "/albums/best/"}, []string{"drafts", "*.tmp"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		dir  bool
		want bool
	}{
		{"a.flac", false, true}, {"x/y/a.flac", false, true}, {"a.png", false, false}, {"albums", true, false},
		{"albums/best", true, true}, {"albums/best/cover.png", false, true}, {"albums/best/deep/er/note", false, true},
		{"albums/best/x.tmp", false, false}, {"drafts", true, false}, {"old/albums/best/cover.png", false, false},
	} {
		if got := !s.Excludes(c.path, c.dir) && s.Includes(c.path, c.dir); got != c.want {
			t.Errorf("%s: selected %v", c.path, got)
		}
	}
	for _, all := range []*Selection{nil, {}} {
		if all.Excludes("a", true) || !all.Includes("a", false) {
			t.Errorf("%+v does not mean everything", all)
		}
	}
	for _, bad := range [][]string{{"["}, {"!a"}, {""}} {
		if _, err := NewSelection(bad, nil); !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := NewSelection(nil, bad); !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
