package logging

import (
	"log/slog"
	"time"
)

// The names of attributes that lines have in common, so that a search by one of
// them finds all that belongs to it.
const (
	KeyVM        = "vm"        // a VM's name
	KeyVMID      = "vmId"      // its ID, "<vCenter's UUID>/<moref>"
	KeyDisk      = "disk"      // a disk's label, "Hard disk 1"
	KeyCycle     = "cycle"     // a cycle's ID
	KeyRun       = "run"       // a run's number
	KeyStep      = "step"      // a cycle's step
	KeyAppliance = "appliance" // an appliance's ID
	KeyHook      = "hook"      // a webhook's name
	KeyTook      = "took"      // a duration
	KeyError     = "error"     // why it went wrong
)

// VM is a VM's name.
func VM(name string) slog.Attr { return slog.String(KeyVM, name) }

// Disk is a disk's label.
func Disk(label string) slog.Attr { return slog.String(KeyDisk, label) }

// Cycle is a cycle's ID.
func Cycle[T ~string](id T) slog.Attr { return slog.String(KeyCycle, string(id)) }

// Run is a run's number.
func Run(id int64) slog.Attr { return slog.Int64(KeyRun, id) }

// Took is how long something took.
func Took(d time.Duration) slog.Attr { return slog.Duration(KeyTook, d) }

// Err is why something went wrong.
func Err(err error) slog.Attr { return slog.Any(KeyError, err) }
