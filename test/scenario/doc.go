// Package scenario holds what Snapferry must do as stories that run in any
// world: fakes in memory, the lab over the real protocols, or a real vCenter
// and AWS account (see docs/field-test.md). The world is a parameter; a story
// never asks which one it is in.
package scenario
