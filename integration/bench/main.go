// Command bench measures sttnode against other programs on this machine and
// prints ratios: absolute figures depend on the machine, ratios in one run
// hardly do.
//
//	go run . session [--case NAME,…] [--json] [--runs N] [--netlab DIR]
//	go run . store   [--case NAME,…] [--json] [--runs N] [--gib N] [--dir DIR]
//
// Every case runs its subjects in turn, again and again, and takes the median
// of the runs, so that what else the machine does meets all of them alike.
// Each subject is two processes, or one for the store, made by running this
// program again.
//
// It is a module of its own, so that what it compares with never becomes a
// dependency of sttnode.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

func main() {
	args := os.Args[1:]
	var err error
	defer profile()()
	switch {
	case len(args) > 0 && args[0] == "session":
		err = sessionBench(args[1:])
	case len(args) > 0 && args[0] == "store":
		err = storeBench(args[1:])
	case len(args) > 0 && args[0] == roleStore:
		err = storeProcess(args[1:])
	case len(args) > 0 && args[0] == roleServer:
		err = serve(args[1:])
	case len(args) > 0 && args[0] == roleClient:
		err = drive(args[1:])
	case len(args) > 0 && args[0] == roleInside:
		err = inside(args[1:])
	default:
		fmt.Fprintln(os.Stderr, "usage: go run . session|store [--case NAME,…] [--json] [--runs N] [--netlab DIR] [--gib N] [--dir DIR]")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profile writes a CPU profile of each process of a subject into the directory
// that STT_BENCH_PROFILE names.
func profile() (stop func()) {
	dir := os.Getenv("STT_BENCH_PROFILE")
	if dir == "" || len(os.Args) < 3 || os.Args[1] == "session" || os.Args[1] == "store" || os.Args[1] == roleInside {
		return func() {}
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%s.pprof", os.Args[1], os.Args[2])))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}
}
