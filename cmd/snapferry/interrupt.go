package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"snapferry/transfer"
)

// interrupts turns Ctrl-C into an orderly end. The first signal cancels the
// context, and the process goes on until everything is cleaned up; the second
// leaves at once and says what it leaves.
type interrupts struct {
	errs    io.Writer
	exit    func(int)
	stopped atomic.Bool

	mu   sync.Mutex
	left []*func() []string
	say  io.Writer // errs, or the way past a display
}

func newInterrupts(errs io.Writer, exit func(int)) *interrupts {
	return &interrupts{errs: errs, exit: exit, say: errs}
}

// leaves registers a function that says what exists at this moment and would
// stay behind. It counts until undo is called.
func (i *interrupts) leaves(f func() []string) (undo func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	entry := &f
	i.left = append(i.left, entry)
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.left = slices.DeleteFunc(i.left, func(e *func() []string) bool { return e == entry })
	}
}

// through makes the first message go to w until undo is called.
func (i *interrupts) through(w io.Writer) (undo func()) {
	set := func(w io.Writer) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.say = w
	}
	set(w)
	return func() { set(i.errs) }
}

// watch returns a context that the first signal cancels.
func (i *interrupts) watch() context.Context {
	// A closed pipe behind stdout or stderr would otherwise kill the process
	// in the middle of a cycle: "sync … | head" must not leave a VM snapshot.
	signal.Ignore(syscall.SIGPIPE)
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP)
	}
	got := make(chan os.Signal, 2)
	signal.Notify(got, signals...)
	ctx, cancel := context.WithCancel(context.Background())
	go i.serve(got, cancel)
	return ctx
}

func (i *interrupts) serve(got <-chan os.Signal, cancel func()) {
	s := <-got
	i.stopped.Store(true)
	i.mu.Lock()
	say := i.say
	i.mu.Unlock()
	fmt.Fprintf(say, "snapferry: %v: cleaning up; once more to leave at once\n", s)
	cancel()
	<-got
	i.mu.Lock()
	entries := slices.Clone(i.left)
	i.mu.Unlock()
	var left []string
	for _, f := range entries {
		left = append(left, (*f)()...)
	}
	fmt.Fprint(i.errs, farewell(left))
	i.exit(exitInterrupted)
}

// farewell says what is left behind, and what to do about it.
func farewell(left []string) string {
	if len(left) == 0 {
		return "snapferry: left at once; nothing of it stays behind\n"
	}
	text := "snapferry: left at once; this stays behind:\n"
	for _, l := range left {
		text += "  " + l + "\n"
	}
	return text
}

// leftovers says what a cycle has made that exists while its report says this.
func leftovers(vm string, r transfer.Report) []string {
	var left []string
	for _, d := range r.Disks {
		if d.Attached {
			left = append(left, fmt.Sprintf("%s of %s, attached to the appliance: remove it from the appliance WITHOUT deleting its files, before the VM snapshot", d.Label, vm))
		}
	}
	if r.Snapshot != "" {
		left = append(left, fmt.Sprintf("the VM snapshot of %s (%s, cycle %s), which grows: the next sync of the VM removes it, or delete it in vCenter", vm, r.Snapshot, r.Cycle))
	} else if r.Step == transfer.StepFreeze {
		left = append(left, fmt.Sprintf("perhaps a VM snapshot of %s (cycle %s), which was being taken: look in vCenter", vm, r.Cycle))
	}
	for _, d := range r.Disks {
		if d.Snapshot != "" && !d.Sealed {
			left = append(left, fmt.Sprintf("the draft %s of %s of %s in AWS: the next sync goes on with it", d.Snapshot, d.Label, vm))
		}
	}
	return left
}
