package guest

import (
	"fmt"
	"strconv"
	"strings"
)

// Work is what the load in a guest has done, as somebody tells it.
type Work struct {
	// Entries of the database: the chain of number n is at n-1. A chain is the
	// digest of the entry and of the chain before it.
	Entries []string
	Files   map[string]string // SHA-256 by name
	Stopped bool              // it ended in good order
}

// Committed reads what the load told. Each line was written after what it tells
// was on the disk.
func Committed(report string) (Work, error) { return readWork(report, "LOAD-") }

// Found is what a probe found of a load's work.
type Found struct {
	Work
	Integrity []string // what SQLite's own check says: "ok"
	Wrong     []string // entries whose body is not what their chain says
	Total     []string // entries and bytes by the running total, then as counted
	Leftover  string   // bytes of a write-ahead log that had not been folded up; "" for none
	Kernel    []string // what it said about file systems
	Checks    []string // of file systems at boot, as systemd lists them
	Changed   int64    // bytes of the files of which it is certain that a conversion changes them
}

// Find reads what a probe told.
func Find(report string) (Found, error) {
	w, err := readWork(report, "PROBE-")
	f := Found{Work: w}
	for line := range strings.Lines(report) {
		key, rest, _ := strings.Cut(told(line, "PROBE-"), " ")
		switch key {
		case "PROBE-INTEGRITY":
			f.Integrity = append(f.Integrity, rest)
		case "PROBE-WRONG":
			f.Wrong = append(f.Wrong, rest)
		case "PROBE-TOTAL":
			f.Total = strings.Fields(rest)
		case "PROBE-WAL":
			f.Leftover = rest
		case "PROBE-KERNEL":
			f.Kernel = append(f.Kernel, rest)
		case "PROBE-CHANGED":
			f.Changed, _ = strconv.ParseInt(rest, 10, 64) // else 0, which no budget allows
		case "PROBE-FSCK":
			f.Checks = append(f.Checks, rest)
		}
	}
	return f, err
}

// told is what a line tells. UEFI's firmware talks on the same serial line
// before, and does not end its last line.
func told(line, prefix string) string {
	_, rest, ok := strings.Cut(line, prefix)
	if !ok {
		return ""
	}
	return prefix + strings.TrimSpace(rest)
}

func readWork(report, prefix string) (Work, error) {
	w := Work{Files: map[string]string{}}
	for line := range strings.Lines(report) {
		words := strings.Fields(told(line, prefix))
		switch {
		case len(words) == 0:
		case words[0] == prefix+"STOPPED":
			w.Stopped = true
		case words[0] == prefix+"FILE" && len(words) == 3:
			w.Files[words[1]] = words[2]
		case words[0] == prefix+"ENTRY" && len(words) == 3:
			if words[1] != fmt.Sprint(len(w.Entries)+1) {
				return w, fmt.Errorf("entry %s is told after entry %d", words[1], len(w.Entries))
			}
			w.Entries = append(w.Entries, words[2])
		}
	}
	return w, nil
}

// Lacks says what of the committed work is not in what was found, or is not as
// it was. What is there beyond it had been written, and nobody had been told.
func (f Found) Lacks(committed Work) (lost []string) {
	for i, chain := range committed.Entries {
		if i >= len(f.Entries) {
			lost = append(lost, fmt.Sprintf("entries %d to %d", i+1, len(committed.Entries)))
			break
		}
		if f.Entries[i] != chain {
			lost = append(lost, fmt.Sprintf("entry %d is another one", i+1))
			break // so are all after it
		}
	}
	for name, sum := range committed.Files {
		switch got, ok := f.Files[name]; {
		case !ok:
			lost = append(lost, "file "+name)
		case got != sum:
			lost = append(lost, "file "+name+" has another content")
		}
	}
	return lost
}

// Broken says what is wrong with what was found in itself.
func (f Found) Broken() (wrong []string) {
	if len(f.Integrity) != 1 || f.Integrity[0] != "ok" {
		wrong = append(wrong, fmt.Sprintf("integrity check: %q", f.Integrity))
	}
	if len(f.Wrong) > 0 {
		wrong = append(wrong, fmt.Sprintf("entries that are not what was written: %v", f.Wrong))
	}
	if t := f.Total; len(t) != 4 || t[0] != t[2] || t[1] != t[3] || t[0] != fmt.Sprint(len(f.Entries)) {
		wrong = append(wrong, fmt.Sprintf("totals %v of %d entries", t, len(f.Entries)))
	}
	return wrong
}
