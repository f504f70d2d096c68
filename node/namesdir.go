package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seigr/sttnode/dht"
	"github.com/seigr/sttnode/stc"
)

// The names of a node are remembered in a directory, so that the processes that
// run it and those that publish names find them: a file for each label, with the
// signed record and nothing secret in it.
const (
	nameFilePrefix = "name-"
	maxNames       = 1024
)

// NamesDir returns where a node with that Config.Dir remembers its names.
func NamesDir(dir string) string { return filepath.Join(dir, "names") }

// Names lists the names that are remembered in a directory, by label. One that
// does not exist holds none. A file that is damaged is an error beside what else
// was found.
func Names(dir string) (names []PublishedName, err error) {
	labels, err := nameLabels(dir)
	errs := []error{err}
	for _, label := range labels {
		rec, err := readName(dir, label)
		if err != nil {
			errs = append(errs, err)
		} else if !rec.IsZero() {
			root, _ := nameTarget(rec)
			names = append(names, PublishedName{label, rec.Name(), root, rec.Sequence()})
		}
	}
	return names, errors.Join(errs...)
}

// nameLabels returns the labels of the names in a directory, sorted.
func nameLabels(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("node: names: %w", err)
	}
	var labels []string
	for _, e := range entries {
		if label, ok := strings.CutPrefix(e.Name(), nameFilePrefix); ok && stc.CheckLabel(label) == nil {
			labels = append(labels, label)
		}
	}
	slices.Sort(labels)
	return labels, nil
}

// readName returns the record of a label; the zero Record if there is none, or
// dir is empty.
func readName(dir, label string) (dht.Record, error) {
	if dir == "" {
		return dht.Record{}, nil
	}
	path := filepath.Join(dir, nameFilePrefix+label)
	b, err := readLimited(path, 2*dht.MaxRecordValue)
	if errors.Is(err, fs.ErrNotExist) {
		return dht.Record{}, nil
	}
	var rec dht.Record
	if err == nil {
		rec, err = dht.ParseRecord(b)
	}
	if err != nil {
		return dht.Record{}, fmt.Errorf("node: name %s: %s: %w", label, path, err)
	}
	return rec, nil
}

// writeName remembers the record of a label, at once or not at all, unless dir
// is empty.
func writeName(dir, label string, rec dht.Record) error {
	if dir == "" {
		return nil
	}
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return fmt.Errorf("node: names: %w", err)
	}
	if labels, err := nameLabels(dir); err != nil {
		return err
	} else if len(labels) >= maxNames && !slices.Contains(labels, label) {
		return fmt.Errorf("node: name %s: %d names are kept already, which is the most: forget one", label, len(labels))
	}
	b, err := rec.AppendBinary(nil)
	if err == nil {
		err = writeSynced(filepath.Join(dir, nameFilePrefix+label), b)
	}
	if err != nil {
		return fmt.Errorf("node: name %s: %w", label, err)
	}
	return nil
}

// writeSynced makes b the content of path, at once or not at all.
func writeSynced(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// ForgetName removes a label from a directory of names: nobody keeps it
// published from then on. fs.ErrNotExist if it is not there.
func ForgetName(dir, label string) error {
	if err := stc.CheckLabel(label); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, nameFilePrefix+label)); err != nil {
		return fmt.Errorf("node: name %s: %w", label, err)
	}
	return nil
}
