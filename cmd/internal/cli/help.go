package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// helpText is help as a value.
type helpText struct {
	Help string `json:"help"`
}

func (h helpText) Text(w io.Writer) { _, _ = io.WriteString(w, h.Help) }

// Help is the table of commands.
func (p *Program) Help() Value {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: %s COMMAND [flags]\n\nCommands:\n", p.Short, p.Name)
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, c := range p.Commands {
		fmt.Fprintf(tw, "  %s\t%s\n", strings.TrimSpace(c.Name+" "+c.Args), c.Short)
	}
	_ = tw.Flush() // writes to memory
	if p.Notes != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimRight(p.Notes, "\n"))
	}
	return helpText{b.String()}
}

// helpOn is the help of one command.
func (p *Program) helpOn(c *Command) Value {
	_, own, settings := c.flags(p)
	c.New(own, settings)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: %s\n", c.Short, strings.TrimSpace(p.Name+" "+c.Name+" "+c.Args))
	if c.Long != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Long))
	}
	if len(c.Examples) > 0 {
		fmt.Fprintf(&b, "\nExamples:\n  %s\n", strings.Join(c.Examples, "\n  "))
	}
	// One width for both lists: 100 columns fit a terminal beside another.
	const columns = 100
	if own.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", own.FlagUsagesWrapped(columns))
	}
	fmt.Fprintf(&b, "\nSettings (also in the settings file or the environment):\n%s", settings.FlagUsagesWrapped(columns))
	return helpText{b.String()}
}

// HelpCommand is the command "help". It needs the program that it is part of.
func HelpCommand(p *Program) *Command {
	return &Command{
		Name: "help", Args: "[COMMAND]", Short: "show what a command does, with examples",
		Examples: []string{p.Name + " help", p.Name + " help sync"},
		New: func(_, _ *pflag.FlagSet) Run {
			return func(_ context.Context, _ Streams, args []string) (Value, error) {
				switch len(args) {
				case 0:
					return p.Help(), nil
				case 1:
					c, err := p.find(args[0])
					if err != nil {
						return nil, err
					}
					return p.helpOn(c), nil
				}
				return nil, Usagef("help takes one command")
			}
		},
	}
}
