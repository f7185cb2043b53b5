package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// events shows progress as JSON, one document a line, for programs.
type events struct{ w io.Writer }

// event is one line.
type event struct {
	Event string `json:"event"` // "step", "progress" or "end"
	What  string `json:"what"`
	Step  string `json:"step"`
	State any    `json:"state"` // the cycle's report, or the reading's counts
}

func (e *events) stepped(s subject) { e.write("step", s) }
func (e *events) tick(s subject)    { e.write("progress", s) }
func (e *events) ended(s subject)   { e.write("end", s) }
func (e *events) close()            {}

func (e *events) write(kind string, s subject) {
	line, err := json.Marshal(event{Event: kind, What: s.title(), Step: s.step(), State: s.event()})
	if err != nil {
		fmt.Fprintf(os.Stderr, "snapferry: encode progress: %v\n", err)
		return
	}
	_, _ = e.w.Write(append(line, '\n')) // who does not listen misses nothing that the result lacks
}
