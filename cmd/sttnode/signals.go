package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopTimeout bounds how long the program takes to end after the first
// signal.
const stopTimeout = 10 * time.Second

// withSignals returns a context that ends, with errInterrupted as its cause, at
// the first SIGINT or SIGTERM. At the second, or when the clean stop takes
// longer than stopTimeout, the process exits at once. stop releases the
// signals and waits for the goroutine.
func withSignals(parent context.Context, stderr io.Writer) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-over:
			return
		}
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-signals:
		case <-timer.C:
			fmt.Fprintf(stderr, "sttnode: not stopped after %v, giving up\n", stopTimeout)
		case <-over:
			return
		}
		os.Exit(exitInterrupted)
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(over)
		<-done
		cancel(nil)
	}
}

// onHangup calls do at each SIGHUP, one call at a time, until stop is called,
// which waits for a call under way. A SIGHUP that comes because the terminal is
// gone means what SIGTERM does.
func onHangup(do func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	attended := hasTerminal()
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			case <-hangups:
			}
			if attended && !hasTerminal() {
				if self, err := os.FindProcess(os.Getpid()); err == nil {
					_ = self.Signal(syscall.SIGTERM)
				}
				continue
			}
			do()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(over)
		<-done
	}
}

// hasTerminal reports whether the process has a controlling terminal, which it
// loses when that is closed.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	tty.Close()
	return true
}
