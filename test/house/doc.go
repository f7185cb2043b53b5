// Package house turns the rules of the house into tests: which package may
// import which, that each has a doc.go, how long functions and files may be.
// It parses the sources rather than asking the go command, whose answers would
// be cached.
package house
