package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
)

// writeRandomFile makes a file of size random bytes, which no compression and
// no deduplication makes smaller.
func writeRandomFile(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	var seed [32]byte
	rand.Read(seed[:])
	_, err = io.CopyN(f, mathrand.NewChaCha8(seed), int64(size))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// writeDemoTree makes a directory tree with files of many sizes, empty ones,
// one that can be executed, an empty directory and a link.
func writeDemoTree(root string) error {
	size := 1
	for d := range 6 {
		dir := filepath.Join(root, fmt.Sprintf("year %d", 2020+d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for i := range 20 {
			// From nothing to about half a mebibyte, unevenly.
			n := (size * 7919) % (1 << i)
			if err := writeRandomFile(filepath.Join(dir, fmt.Sprintf("picture %02d.jpg", i)), n); err != nil {
				return err
			}
			size++
		}
	}
	if err := os.WriteFile(filepath.Join(root, "view.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o755); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // links need a privilege there
	}
	return os.Symlink("year 2020", filepath.Join(root, "first"))
}

// sameTree reports how two files or directory trees differ: in names, kinds,
// permissions, targets of links or bytes. nil if they do not.
func sameTree(a, b string) error {
	names := func(root string) (map[string]fs.DirEntry, error) {
		all := make(map[string]fs.DirEntry)
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			all[rel] = e
			return err
		})
		return all, err
	}
	inA, err := names(a)
	if err != nil {
		return err
	}
	inB, err := names(b)
	if err != nil {
		return err
	}
	for rel := range inB {
		if inA[rel] == nil {
			return fmt.Errorf("%s was not in the original", rel)
		}
	}
	for rel, e := range inA {
		if inB[rel] == nil {
			return fmt.Errorf("%s is missing", rel)
		}
		if err := sameEntry(filepath.Join(a, rel), filepath.Join(b, rel), e.Type()); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
	}
	return nil
}

func sameEntry(a, b string, kind fs.FileMode) error {
	infoA, err := os.Lstat(a)
	if err != nil {
		return err
	}
	infoB, err := os.Lstat(b)
	if err != nil {
		return err
	}
	if infoA.Mode() != infoB.Mode() {
		return fmt.Errorf("mode %v instead of %v", infoB.Mode(), infoA.Mode())
	}
	switch {
	case kind.IsRegular():
		return sameBytes(a, b)
	case kind&fs.ModeSymlink != 0:
		targetA, err := os.Readlink(a)
		if err != nil {
			return err
		}
		if targetB, err := os.Readlink(b); err != nil || targetA != targetB {
			return fmt.Errorf("links to %q instead of %q (%w)", targetB, targetA, err)
		}
	}
	return nil
}

func sameBytes(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := 0; ; at += len(bufA) {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return fmt.Errorf("bytes differ behind %d", at)
		}
		if errA != nil || errB != nil {
			if (errA == io.EOF || errA == io.ErrUnexpectedEOF) && errA == errB {
				return nil
			}
			return fmt.Errorf("reading: %v, %v", errA, errB)
		}
	}
}
