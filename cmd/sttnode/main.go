// Command sttnode is a node of a private content-distribution network. It
// seeds files into the network, fetches content by its hash from many peers at
// once, and runs the bootstrap nodes through which the others find each other.
//
// Run "sttnode help" for the commands. The package holds what belongs to a
// command line only: flags, settings, files with secrets, output, signals. What
// a node does is in the package node.
package main

import (
	"context"
	"os"
)

func main() {
	a := &app{
		stdin:     os.Stdin,
		stdout:    os.Stdout,
		stderr:    os.Stderr,
		lookupEnv: os.LookupEnv,
	}
	ctx, stop := withSignals(context.Background(), a.stderr)
	code := a.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
