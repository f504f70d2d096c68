// Command bench measures sttnode against other programs on this machine and
// prints ratios: absolute figures depend on the machine, ratios in one run
// hardly do.
//
//	go run . session [--case NAME,…] [--json] [--runs N] [--netlab DIR]
//	go run . library [--case NAME,…] [--json] [--runs N]
//	go run . store   [--case NAME,…] [--json] [--runs N] [--gib N] [--dir DIR]
//	go run . fetch   [--case NAME,…] [--json] [--runs N] [--mib N] [--gib N] [--netlab DIR] [--dir DIR]
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

// processes are what this program is when it runs itself, by the first argument.
var processes = map[string]func(args []string) error{
	roleStore:  storeProcess,
	roleServer: serve,
	roleClient: drive,
	roleInside: inside,
	rolePeer:   peer,
	roleWeb:    web,
	roleLiar:   liar,
	roleInLab:  inLab,
}

func main() {
	args := os.Args[1:]
	var err error
	defer profile()()
	switch {
	case len(args) > 0 && args[0] == "session":
		err = sessionBench(args[1:])
	case len(args) > 0 && args[0] == "library":
		err = libraryBench(args[1:])
	case len(args) > 0 && args[0] == "store":
		err = storeBench(args[1:])
	case len(args) > 0 && args[0] == "fetch":
		err = fetchBench(args[1:])
	case len(args) > 0 && processes[args[0]] != nil:
		err = processes[args[0]](args[1:])
	default:
		fmt.Fprintln(os.Stderr, "usage: go run . session|library|store|fetch [--case NAME,…] [--json] [--runs N] [--netlab DIR] [--gib N] [--dir DIR]")
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
	if dir == "" || len(os.Args) < 3 || processes[os.Args[1]] == nil || os.Args[1] == roleInside || os.Args[1] == roleInLab {
		return func() {}
	}
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%s.pprof", os.Args[1], filepath.Base(os.Args[2]))))
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
