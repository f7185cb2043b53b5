package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Args: "NAME", Short: "make a token for the API and the console",
		Long: `Writes the token to a file that only you can read, and shows the lines for the
settings: they hold its digest, from which nobody gets the token back.`,
		Examples: []string{"snapferry token ops --role operator --out ops.token", "snapferry token grafana --role viewer --out grafana.token"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			role := own.String("role", string(schedule.RoleViewer), "`role`: viewer looks, operator acts")
			out := own.String("out", "", "`file` to write the token to; it must not exist")
			return func(_ context.Context, _ cli.Streams, args []string) (cli.Value, error) {
				r := schedule.Role(*role)
				switch {
				case len(args) != 1:
					return nil, cli.Usagef("token takes the name of who will hold it")
				case r != schedule.RoleViewer && r != schedule.RoleOperator:
					return nil, cli.Usagef("--role %s: it must be viewer or operator", *role)
				case *out == "":
					return nil, cli.Usagef("token wants --out FILE: the token is not shown on the screen")
				}
				return makeToken(args[0], r, *out)
			}
		},
	}
}

// tokenBytes: 256 bits cannot be guessed, so that a plain digest is enough.
const tokenBytes = 32

func newToken() (token string, digest [sha256.Size]byte) {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	token = "sft_" + hex.EncodeToString(b[:])
	return token, sha256.Sum256([]byte(token))
}

func makeToken(name string, role schedule.Role, out string) (cli.Value, error) {
	token, digest := newToken()
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return tokenResult{Name: name, Role: role, SHA256: hex.EncodeToString(digest[:]), File: out}, err
}

type tokenResult struct {
	Name   string        `json:"name"`
	Role   schedule.Role `json:"role"`
	SHA256 string        `json:"sha256"`
	File   string        `json:"file"`
}

func (r tokenResult) Text(w io.Writer) {
	fmt.Fprintf(w, "The token is in %s. Put this into the settings and start the daemon again:\n\nserver:\n  tokens:\n    - name: %s\n      role: %s\n      sha256: %s\n", r.File, r.Name, r.Role, r.SHA256)
}
