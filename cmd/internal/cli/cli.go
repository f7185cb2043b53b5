package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Value is what a command found or did. Its JSON form is encoding/json's and
// must be an object.
type Value interface {
	// Text writes the form for a person. Errors of w surface when the runner
	// flushes.
	Text(w io.Writer)
}

// Outcome is a Value that decides the exit status where there was no error.
type Outcome interface {
	Value
	Exit() int
}

// Streams are what a command may touch of the terminal.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// AskTerminal: In and Err are a person's terminal. ShowTerminal: Err is one
	// that is wide enough to draw on.
	AskTerminal, ShowTerminal bool
	// Logs: something else writes lines to Err while the command runs.
	Logs bool
}

// Run is a command once its flags are parsed. A Value that comes with an error
// is shown too.
type Run func(ctx context.Context, io Streams, args []string) (Value, error)

// Command is one verb.
type Command struct {
	Name, Args, Short string
	Long              string   // below the usage line; may be empty
	Examples          []string // command lines that run as they are
	// New declares flags and returns what runs once they are parsed; options
	// live in its closure. Flags of the second set are listed apart in help.
	New func(own, settings *pflag.FlagSet) Run
}

// Program is a table of commands.
type Program struct {
	Name, Short string
	Commands    []*Command
	Notes       string // below the table of commands in help
	// Explain says what an error means.
	Explain func(error) Problem
}

// Problem is an error for a person or a script.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"` // the next step
	Kind  string `json:"kind"`
	Exit  int    `json:"-"`
}

// usageError marks an error as the caller's.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Usage marks err as wrong usage: the command line or the settings cannot be
// understood, and nothing was tried.
func Usage(err error) error { return usageError{err} }

// Usagef is Usage of a formatted error.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether err was marked by Usage.
func IsUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}

// Main runs the command that args name and returns the exit status.
func (p *Program) Main(ctx context.Context, std Streams, args []string) int {
	render := renderText
	if asksJSON(args) { // looked for by hand: a wrong flag is reported as asked, too
		render = renderJSON
	}
	v, err := p.run(ctx, std, args)
	exit := 0
	var problem *Problem
	if err != nil {
		e := p.Explain(err)
		problem, exit = &e, e.Exit
	} else if o, ok := v.(Outcome); ok {
		exit = o.Exit()
	}
	out := bufio.NewWriter(std.Out)
	werr := render(out, std.Err, p.Name, v, problem)
	if ferr := out.Flush(); werr == nil {
		werr = ferr
	}
	if werr != nil {
		fmt.Fprintf(std.Err, "%s: write the result: %v\n", p.Name, werr)
		exit = max(exit, 1)
	}
	return exit
}

func asksJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

func (p *Program) run(ctx context.Context, std Streams, args []string) (Value, error) {
	switch {
	case len(args) == 0:
		return p.Help(), Usagef("no command given")
	case args[0] == "-h" || args[0] == "--help":
		return p.Help(), nil
	case args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	case strings.HasPrefix(args[0], "-"):
		return nil, Usagef("flags come behind the command: %s COMMAND %s", p.Name, strings.Join(args, " "))
	}
	c, err := p.find(args[0])
	if err != nil {
		return nil, err
	}
	set, own, settings := c.flags(p)
	run := c.New(own, settings)
	set.AddFlagSet(own)
	set.AddFlagSet(settings)
	switch err := set.Parse(args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		return p.helpOn(c), nil
	case err != nil:
		return nil, Usagef("%s: %w; see %s help %s", c.Name, err, p.Name, c.Name)
	}
	return run(ctx, std, set.Args())
}

func (c *Command) flags(p *Program) (set, own, settings *pflag.FlagSet) {
	fresh := func() *pflag.FlagSet {
		fs := pflag.NewFlagSet(p.Name+" "+c.Name, pflag.ContinueOnError)
		fs.SortFlags = false
		fs.SetOutput(io.Discard)
		return fs
	}
	set, own, settings = fresh(), fresh(), fresh()
	settings.Bool("json", false, "print one JSON document instead of text")
	return set, own, settings
}

// find returns the command called name, or says which was meant.
func (p *Program) find(name string) (*Command, error) {
	for _, c := range p.Commands {
		if c.Name == name {
			return c, nil
		}
	}
	names := make([]string, len(p.Commands))
	for i, c := range p.Commands {
		names[i] = c.Name
	}
	slices.SortStableFunc(names, func(a, b string) int { return Distance(a, name) - Distance(b, name) })
	if Distance(names[0], name) <= 2 {
		return nil, Usagef("no command %q: did you mean %q?", name, names[0])
	}
	return nil, Usagef("no command %q; see %s help", name, p.Name)
}

// Distance is how many letters must be typed, removed or changed to make b of
// a, letter case aside.
func Distance(a, b string) int {
	s, t := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	row := make([]int, len(t)+1)
	for j := range row {
		row[j] = j
	}
	for i := range s {
		diagonal := row[0]
		row[0] = i + 1
		for j := range t {
			cost := diagonal
			if s[i] != t[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(t)]
}
