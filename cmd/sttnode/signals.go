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
