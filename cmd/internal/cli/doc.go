// Package cli runs a table of commands on spf13/pflag alone: it finds the
// command, parses its flags, runs it, and renders the value that it returns.
//
// A command returns a [Value] and an error, and never knows how either is
// shown: the runner chooses between text and one JSON document once, by --json.
// Results go to stdout, everything else (errors as text, progress, questions)
// to stderr. In JSON an error is part of the document on stdout, so that a
// script reads one thing.
//
// What an error means for the exit status is the program's to say
// ([Program.Explain]); the package knows only wrong usage ([Usage]).
package cli
