package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
)

// version is set by the linker for a release.
var version = "development"

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the sources
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (v versionInfo) Text(w io.Writer) {
	fmt.Fprintf(w, "snapferry %s", v.Version)
	if v.Revision != "" {
		fmt.Fprintf(w, " (%s)", v.Revision)
	}
	fmt.Fprintf(w, ", %s, %s\n", v.Go, v.Platform)
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Short: "show the version",
		Examples: []string{"snapferry version", "snapferry version --json"},
		New: func(_, _ *pflag.FlagSet) cli.Run {
			return func(_ context.Context, _ cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 0 {
					return nil, cli.Usagef("version takes no argument")
				}
				return newVersionInfo(), nil
			}
		},
	}
}

func newVersionInfo() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Revision = s.Value + v.Revision
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Revision += "+changes"
		}
	}
	return v
}
