package main

import (
	"fmt"
	"io"
)

// lines shows progress as plain lines, for logs.
type lines struct {
	w    io.Writer
	said map[string]bool
}

// stepped says each step once: sealing and releasing run side by side, and
// every disk seals by itself.
func (l *lines) stepped(s subject) {
	line := fmt.Sprintf("%s: %s\n", s.title(), s.step())
	if l.said[line] {
		return
	}
	if l.said == nil {
		l.said = map[string]bool{}
	}
	l.said[line] = true
	fmt.Fprint(l.w, line)
}

func (l *lines) tick(s subject) {
	for _, t := range s.tracks() {
		if t.total > 0 && t.done < t.total {
			fmt.Fprintf(l.w, "%s: %s: %s\n", s.title(), t.name, t)
		}
	}
}

func (l *lines) ended(s subject) { l.stepped(s) }
func (l *lines) close()          {}

// String is "45 %, 3.2 GiB of 7.1 GiB, 201 MB/s, 19s left".
func (t track) String() string {
	text := fmt.Sprintf("%d %%, %s of %s, %s", percent(t.done, t.total), bytesText(t.done), bytesText(t.total), rateText(t.rate))
	if t.left > 0 && t.done < t.total {
		text += ", " + tookText(t.left) + " left"
	}
	return text
}

// percent is 100 only when all is done.
func percent(done, total int64) int64 {
	if total <= 0 || done >= total {
		return 100
	}
	return int64(float64(done) / float64(total) * 100)
}
