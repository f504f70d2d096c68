package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/seigr/sttnode/content"
	"github.com/seigr/sttnode/node"
)

// The exit codes are a promise to scripts: a number never changes its meaning.
const (
	exitOK             = 0
	exitError          = 1
	exitUsage          = 2
	exitPartly         = 3
	exitNoProvider     = 4
	exitStalled        = 5
	exitVerification   = 6
	exitDiskFull       = 9
	exitNotInitialised = 10
	exitStoreLocked    = 11
	exitWrongSeed      = 12
	exitInterrupted    = 130
)

// exitCodeTexts explains the codes in the usage text, in this order.
var exitCodeTexts = []struct {
	code int
	text string
}{
	{exitOK, "done"},
	{exitError, "an error that has no code of its own"},
	{exitUsage, "wrong usage: a flag, an argument or a setting"},
	{exitPartly, "partly done: some of several things failed"},
	{exitNoProvider, "nobody in the network provides the content, listens for the name, or has published it"},
	{exitStalled, "stalled or timed out"},
	{exitVerification, "verification failed: bytes are not what their hash says"},
	{exitDiskFull, "the disk is full, or the store has reached its limit"},
	{exitNotInitialised, "the node is not initialised: run sttnode init"},
	{exitStoreLocked, "another process uses the store"},
	{exitWrongSeed, "the other nodes have another shared seed"},
	{exitInterrupted, "interrupted before it was done"},
}

var (
	errNotInitialised = errors.New("not initialised")
	errPartly         = errors.New("partly done")
	errInterrupted    = errors.New("interrupted")
	errTimedOut       = errors.New("timed out")
)

// usageError is a mistake in how the program was called. Its message is
// followed by a pointer to the usage text.
type usageError struct {
	command string // the command whose help explains it; empty for the program's
	message string
}

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// exitCode classifies what a command returned.
func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errPartly):
		return exitPartly
	case errors.Is(err, errNotInitialised):
		return exitNotInitialised
	case errors.Is(err, content.ErrLocked):
		return exitStoreLocked
	case errors.Is(err, content.ErrDiskFull), errors.Is(err, content.ErrLimit), errors.Is(err, syscall.ENOSPC):
		return exitDiskFull
	case errors.Is(err, node.ErrWrongSeed):
		return exitWrongSeed
	case errors.Is(err, node.ErrVerification), errors.Is(err, content.ErrCorrupt):
		return exitVerification
	case errors.Is(err, node.ErrNoProvider), errors.Is(err, node.ErrNoName), errors.Is(err, errNobodyListens):
		return exitNoProvider
	case errors.Is(err, node.ErrStalled), errors.Is(err, node.ErrUnreachable), errors.Is(err, node.ErrNoAnswer),
		errors.Is(err, node.ErrSilent), errors.Is(err, errTimedOut):
		return exitStalled
	default:
		return exitError
	}
}
