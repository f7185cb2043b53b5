package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/schedule/store"
)

func migrateCommand() *cli.Command {
	return &cli.Command{
		Name: "migrate-database", Short: "copy the service's SQLite database to PostgreSQL",
		Long: `For an appliance that becomes a fleet. Stop the daemon first; the PostgreSQL
database must be empty. Everything is copied in one transaction and counted; the
SQLite file stays as it is. Then set database.url in the settings of all
appliances to the new one.

The password comes from --to-password-file or PGPASSWORD, never from the URL.`,
		Examples: []string{"snapferry migrate-database --to postgres://snapferry@db.example.com/snapferry --to-password-file /etc/snapferry/db.password"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			to := config.Database{}
			own.StringVar(&to.URL, "to", "", "`URL` of the PostgreSQL database")
			own.StringVar(&to.PasswordFile, "to-password-file", "", "`file` with its password")
			s := newSettings(fs)
			s.state(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 0 || to.URL == "" {
					return nil, cli.Usagef("migrate-database wants --to URL, and nothing else")
				}
				cfg, err := s.load(std)
				if err != nil {
					return nil, err
				}
				if err := to.Complete(config.Here()); err != nil {
					return nil, cli.Usage(err)
				}
				return migrate(ctx, std, cfg, to)
			}
		},
	}
}

func migrate(ctx context.Context, std cli.Streams, cfg config.Config, to config.Database) (cli.Value, error) {
	from, err := store.Open(ctx, cfg.Database.URL, store.Options{Password: cfg.Database.Password.Reveal()})
	if err != nil {
		return nil, err
	}
	defer from.Close()
	target, err := store.Open(ctx, to.URL, store.Options{Password: to.Password.Reveal()})
	if err != nil {
		return nil, err
	}
	defer target.Close()
	result := migrated{Tables: []migratedTable{}}
	err = store.Copy(ctx, from, target, func(table string, rows int64) {
		fmt.Fprintf(std.Err, "%s: %d rows\n", table, rows)
		result.Tables = append(result.Tables, migratedTable{table, rows})
	})
	return result, err
}

type migrated struct {
	Tables []migratedTable `json:"tables"`
}

type migratedTable struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

func (m migrated) Text(w io.Writer) {
	var rows int64
	for _, t := range m.Tables {
		rows += t.Rows
	}
	fmt.Fprintf(w, "%d rows of %d tables copied. Set database.url to the new one and start the daemon.\n", rows, len(m.Tables))
}
