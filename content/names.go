package content

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"
)

const (
	// MaxNameSize is the length in bytes of the longest name in a directory.
	MaxNameSize = 255
	// MaxLinkSize is the length in bytes of the longest target of a symbolic link.
	MaxLinkSize = 1023
)

// CheckName reports, as ErrName, why a manifest can't hold a file of this name. Names are 1 to MaxNameSize bytes of valid
// UTF-8 without '/' and NUL, and neither "." nor "..". Case and normalisation are kept as they are. What else a system
// forbids, an export to that system refuses.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(name) > MaxNameSize:
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrName, len(name), MaxNameSize)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q", ErrName, name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%w: %q contains a slash or a zero byte", ErrName, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q is not valid UTF-8", ErrName, name)
	}
	return nil
}

// checkLink reports, as ErrName, why a manifest can't hold a symbolic link to target. Where the link leads is no concern of
// the manifest; an export looks at that.
func checkLink(target string) error {
	switch {
	case target == "":
		return fmt.Errorf("%w: link to nothing", ErrName)
	case len(target) > MaxLinkSize:
		return fmt.Errorf("%w: link target of %d bytes, at most %d are allowed", ErrName, len(target), MaxLinkSize)
	case strings.IndexByte(target, 0) >= 0:
		return fmt.Errorf("%w: link target %q contains a zero byte", ErrName, target)
	case !utf8.ValidString(target):
		return fmt.Errorf("%w: link target %q is not valid UTF-8", ErrName, target)
	}
	return nil
}

// checkMode reports, as ErrManifest, mode bits that manifests don't carry: they carry the nine permission bits.
func checkMode(mode fs.FileMode) error {
	if mode&^fs.ModePerm != 0 {
		return fmt.Errorf("%w: mode %#o", ErrManifest, uint32(mode))
	}
	return nil
}
