package torture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapferry/transfer"
)

// cell counts what came of one sort of fault at one step.
type cell struct{ rode, alarmed, failed int }

func (c cell) String() string {
	if c == (cell{}) {
		return "·"
	}
	return fmt.Sprintf("%d/%d/%d", c.rode, c.alarmed, c.failed)
}

// matrix is the ledger with all operations of a service together, as a table of
// Markdown: in each cell how often the cycle rode it out, was done with an alarm,
// and failed or was killed. The next cycle was right every time, or the run is
// red. A hyphen is before the first step, or in no cycle.
func (l *ledger) matrix() string {
	columns := []transfer.Step{transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy,
		transfer.StepDetach, transfer.StepRelease, transfer.StepSeal, transfer.StepCommit, transfer.StepDone, "-"}
	rows := map[string]map[transfer.Step]cell{}
	for r, n := range l.rows {
		name := sortOf(r.what)
		if rows[name] == nil {
			rows[name] = map[transfer.Step]cell{}
		}
		c := rows[name][transfer.Step(r.step)]
		switch {
		case strings.HasPrefix(r.outcome, "done with an alarm"), strings.Contains(r.outcome, "found by the audit"):
			c.alarmed += n
		case strings.HasPrefix(r.outcome, "cycle failed"), strings.HasPrefix(r.what, "kill"):
			c.failed += n
		default:
			c.rode += n
		}
		rows[name][transfer.Step(r.step)] = c
	}
	var b strings.Builder
	fmt.Fprint(&b, "\nfault × step → rode it out / done with an alarm / failed or killed; the next sync was right:\n\n| |")
	for _, s := range columns {
		fmt.Fprintf(&b, " %s |", s)
	}
	fmt.Fprint(&b, "\n|---|", strings.Repeat("---|", len(columns)), "\n")
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, s := range columns {
			fmt.Fprintf(&b, " %s |", rows[name][s])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// sortOf is what of a row's name counts in the matrix: not the operation.
func sortOf(what string) string {
	words := strings.Fields(what)
	switch {
	case strings.HasPrefix(what, "kill -9 before"), strings.HasPrefix(what, "kill -9 behind"):
		return strings.Join(words[:3], " ") + " a call"
	case strings.HasPrefix(what, "kill -9 when"):
		return "kill -9 when the step begins"
	case len(words) >= 3 && (words[0] == "vcenter" || words[0] == "aws"):
		return words[0] + " " + words[2]
	}
	return what
}
