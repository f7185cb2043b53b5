//go:build !linux

package main

// harden does nothing: the appliance runs Linux, other systems are for looking.
func harden() {}
