package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

// confirm says what is about to be paid for. A person at a terminal is asked;
// a script goes on, since it has nobody to ask and its author wrote the verb.
func confirm(ctx context.Context, std cli.Streams, cost string, yes bool) error {
	return ask(ctx, std, cost, yes, "read back", "Nothing was read. --yes goes on without asking.")
}

// ask is confirm for anything that is better not done by mistake; hint says
// what was not done.
func ask(ctx context.Context, std cli.Streams, text string, yes bool, what, hint string) error {
	fmt.Fprintln(std.Err, text)
	if yes || !std.AskTerminal {
		return nil
	}
	fmt.Fprint(std.Err, "Go on? [y/N] ")
	answer := make(chan string, 1)
	go func() { // a read from a terminal cannot be cancelled; the process ends soon enough
		line, _ := bufio.NewReader(std.In).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if a == "y" || a == "yes" {
			return nil
		}
		return transfer.Fail(transfer.Permanent, what, fmt.Errorf("not confirmed"), hint)
	case <-ctx.Done():
		fmt.Fprintln(std.Err)
		return ctx.Err()
	}
}
