package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

type greeting struct {
	Name string `json:"name"`
	Bad  bool   `json:"bad,omitempty"`
}

func (g greeting) Text(w io.Writer) { fmt.Fprintf(w, "hello %s\n", g.Name) }

func (g greeting) Exit() int {
	if g.Bad {
		return 4
	}
	return 0
}

var errNo = errors.New("no <way>")

func program() *Program {
	p := &Program{Name: "prog", Short: "prog greets.", Notes: "Exit status: 0 or not."}
	p.Explain = func(err error) Problem {
		if IsUsage(err) {
			return Problem{Error: err.Error(), Kind: "usage", Exit: 2}
		}
		return Problem{Error: err.Error(), Hint: "try & see", Kind: "permanent", Exit: 1}
	}
	greet := &Command{
		Name: "greet", Args: "NAME", Short: "greet somebody", Long: "At length.", Examples: []string{"prog greet me"},
		New: func(own, settings *pflag.FlagSet) Run {
			bad := own.Bool("bad", false, "end badly")
			fail := own.Bool("fail", false, "fail")
			both := own.Bool("both", false, "show and fail")
			settings.String("place", "", "a `place`")
			return func(_ context.Context, _ Streams, args []string) (Value, error) {
				switch {
				case *fail:
					return nil, errNo
				case *both:
					return greeting{Name: "half"}, errNo
				case len(args) != 1:
					return nil, Usagef("greet takes one name")
				}
				return greeting{Name: args[0], Bad: *bad}, nil
			}
		},
	}
	p.Commands = []*Command{greet, HelpCommand(p)}
	return p
}

func exec(args ...string) (exit int, out, errs string) {
	var o, e bytes.Buffer
	exit = program().Main(context.Background(), Streams{Out: &o, Err: &e}, args)
	return exit, o.String(), e.String()
}

func TestRuns(t *testing.T) {
	for _, tt := range []struct {
		args      string
		exit      int
		out, errs string // parts
	}{
		{"greet you", 0, "hello you\n", ""},
		{"greet you --bad", 4, "hello you\n", ""},
		{"greet --bad you", 4, "hello you\n", ""},
		{"greet", 2, "", "prog: greet takes one name\n"},
		{"greet --fail", 1, "", "prog: no <way>\n  next: try & see\n"},
		{"greet --both", 1, "hello half\n", "prog: no <way>\n"},
		{"greet --wrong", 2, "", "unknown flag: --wrong; see prog help greet"},
		{"gret you", 2, "", `did you mean "greet"?`},
		{"zzzzzzzz", 2, "", "see prog help"},
		{"--json greet", 2, "", ""},
		{"-v greet", 2, "", "flags come behind the command"},
		{"", 2, "Usage: prog COMMAND", "no command given"},
		{"--help", 0, "Usage: prog COMMAND", ""},
		{"help", 0, "greet NAME      greet somebody", ""},
		{"help", 0, "Exit status: 0 or not.", ""},
		{"help greet", 0, "Examples:\n  prog greet me", ""},
		{"greet -h", 0, "--place place", ""},
		{"greet --help", 0, "print one JSON document", ""},
		{"help nobody", 2, "", "no command"},
	} {
		exit, out, errs := exec(strings.Fields(tt.args)...)
		if exit != tt.exit || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.errs) || (tt.errs == "" && errs != "") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", tt.args, exit, out, errs)
		}
	}
}

func TestJSONIsOneDocument(t *testing.T) {
	for _, tt := range []struct {
		args string
		exit int
		want map[string]any
	}{
		{"greet you --json", 0, map[string]any{"name": "you"}},
		{"greet you --bad --json", 4, map[string]any{"name": "you", "bad": true}},
		{"greet --fail --json", 1, map[string]any{"error": "no <way>", "hint": "try & see", "kind": "permanent"}},
		{"greet --both --json", 1, map[string]any{"name": "half", "error": "no <way>", "hint": "try & see", "kind": "permanent"}},
		{"greet --json --wrong", 2, map[string]any{"error": "greet: unknown flag: --wrong; see prog help greet", "kind": "usage"}},
	} {
		exit, out, errs := exec(strings.Fields(tt.args)...)
		var got map[string]any
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Errorf("%q: %v in %q", tt.args, err, out)
			continue
		}
		if exit != tt.exit || errs != "" || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%q: exit %d, %v, stderr %q", tt.args, exit, got, errs)
		}
	}
	if _, out, _ := exec("greet", "--fail", "--json"); !strings.Contains(out, "no <way>") {
		t.Errorf("escaped for HTML: %s", out)
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestResultThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, args := range [][]string{{"greet", "you"}, {"greet", "you", "--json"}} {
		var errs bytes.Buffer
		exit := program().Main(context.Background(), Streams{Out: full{}, Err: &errs}, args)
		if exit != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%v: exit %d, %q", args, exit, errs.String())
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"sync", "snyc", 2}, {"sync", "SYNC", 0}, {"points", "point", 1}, {"app01", "app10", 2}} {
		if got := Distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
