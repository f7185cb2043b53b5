// Command snapferry replicates vSphere virtual machines into EBS snapshots, and
// reads them back.
//
// main.go lists the verbs; each has a file of its own and returns a value and
// an error. wire.go is the one place where settings become clients and clients
// become a transfer.Env. exit.go has the exit statuses. The rest is showing:
// table.go and format.go (values as text), progress.go with bars.go, lines.go
// and events.go (a running cycle), interrupt.go (Ctrl-C).
//
// What goes where: results to stdout; progress, questions, logs and errors to
// stderr, except that with --json an error is part of the document on stdout.
package main
