package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run the real program, as a process of its own: the test
// binary under another name.
func TestMain(m *testing.M) {
	// Scripts wait more than they work (a sealed snapshot is looked at after a
	// second): more of them at once than there are cores. -parallel goes before.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"snapferry": main,
		"exits":     exits,
	})
}

// TestScripts runs what a user could type, against a simulated vCenter and a
// simulated AWS. The commands that the scripts have beside are in lab_test.go.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: clearEnv,
		Cmds:  labCommands,
		// A command that is forgotten must not be looked for elsewhere.
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// clearEnv hides the settings of whoever runs the tests.
func clearEnv(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "AWS_PROFILE"} {
		env.Setenv(name, "")
	}
	docs, err := filepath.Abs("../../docs")
	if err != nil {
		return err
	}
	env.Setenv("DOCS", docs)
	env.Setenv("AWS_CONFIG_FILE", env.WorkDir+"/none")
	env.Setenv("AWS_SHARED_CREDENTIALS_FILE", env.WorkDir+"/none")
	// Under the race detector every process sleeps a second when it ends, to
	// let other goroutines' reports out. Hundreds of processes run here.
	env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=10"))
	// Root would keep its state in /var/lib.
	env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
	return nil
}

// exits runs a program and succeeds when its exit status is the first argument.
// It passes signals on.
func exits() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil || len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: exits STATUS COMMAND…")
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	err = cmd.Wait()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "exit status %d, want %d\n", got, want)
		os.Exit(1)
	}
}
