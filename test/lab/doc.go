// Package lab puts a simulated vSphere and a simulated AWS into one process,
// with what a connector needs to find them: an appliance VM whose guest is
// this machine, a settings file, an environment. cmd/snapferry-lab serves it
// to a person; the scenarios run on it.
package lab
