//go:build !linux

package vfs

import "errors"

func (f osFile) PunchHole(off, size int64) error { return errors.ErrUnsupported }

func (f osFile) Allocate(size int64) error { return f.writeZeros(size) }
