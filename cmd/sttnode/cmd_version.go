package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

func versionCommand() *command {
	return &command{
		name:  "version",
		short: "print the version and how the program was built",
		long:  `Prints the version of the program, the revision it was built from, and the Go release and platform it was built with.`,
		group: groupOutput,
		setup: func(*pflag.FlagSet) runFunc { return runVersion },
	}
}

type versionEvent struct {
	Event    string `json:"event"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func runVersion(_ context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	v := versionEvent{Event: "version", Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				v.Revision = s.Value + v.Revision
			case s.Key == "vcs.modified" && s.Value == "true":
				v.Revision += "+modified"
			}
		}
	}
	if a.options.json {
		a.emit(v)
		return nil
	}
	fmt.Fprintf(a.stdout, "sttnode %s %s %s", v.Version, v.Platform, v.Go)
	if v.Revision != "" {
		fmt.Fprintf(a.stdout, " %s", v.Revision)
	}
	fmt.Fprintln(a.stdout)
	return nil
}
