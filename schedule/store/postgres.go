package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// schema holds all our tables; the workflow library has one of its own.
	schema = "snapferry"
	// postgresConns: an appliance runs 16 cycles, each of which tells for some
	// milliseconds every second or two. A fleet of ten keeps to PostgreSQL's 100.
	postgresConns = 10
	// connectTimeout is less than anybody waits for an answer.
	connectTimeout = 5 * time.Second
)

// sessionSettings are those of every session, unless the URL has others.
var sessionSettings = map[string]string{
	"application_name": "snapferry",
	// An appliance that is frozen inside a transaction keeps its locks, above all
	// that of Admit, from the whole fleet: the server ends it.
	"idle_in_transaction_session_timeout": "10s",
	// The same for one whose network is gone.
	"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
}

func openPostgres(ctx context.Context, text string, o Options) (*DB, error) {
	c, err := postgresConfig(text, o)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), c)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{kind: PostgreSQL, pool: pool, sql: stdlib.OpenDBFromPool(pool), q: pgxQuerier{pool}}
	if err := db.makeSchema(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func postgresConfig(text string, o Options) (*pgxpool.Config, error) {
	u, err := url.Parse(text)
	if err != nil { // its error repeats the URL
		return nil, errors.New("open database: the PostgreSQL URL cannot be read; a password with characters such as % @ / is better given apart from it")
	}
	c, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("open database: %s", redact(err, u, o))
	}
	if o.Password != "" {
		c.ConnConfig.Password = o.Password
	}
	params := c.ConnConfig.RuntimeParams
	for k, v := range sessionSettings {
		if _, ok := params[k]; !ok {
			params[k] = v
		}
	}
	params["search_path"] = schema
	switch {
	case o.Conns > 0:
		c.MaxConns = int32(min(o.Conns, 1000))
	case !u.Query().Has("pool_max_conns"):
		c.MaxConns = postgresConns
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTimeout
		dialer := &net.Dialer{Timeout: connectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
		c.ConnConfig.DialFunc = dialer.DialContext
	}
	return c, nil
}

// redact is the text of an error without the secrets that the URL may hold.
// The error itself has the URL in it and goes no further.
func redact(err error, u *url.URL, o Options) string {
	text := err.Error()
	secrets := []string{o.Password, u.Query().Get("password"), u.Query().Get("sslpassword")}
	if p, ok := u.User.Password(); ok {
		secrets = append(secrets, p)
	}
	for _, s := range secrets {
		if s == "" {
			continue
		}
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:]} {
			text = strings.ReplaceAll(text, form, "xxxxx")
		}
	}
	return text
}

// makeSchema makes the schema unless it is there: somebody with more rights may
// have made it.
func (db *DB) makeSchema(ctx context.Context) error {
	err := db.retry(ctx, func() (bool, error) {
		var there bool
		err := one(ctx, db.q, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)`, []any{schema}, &there)
		if err == nil && !there {
			_, err = db.q.exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+schema)
		}
		// Of two that make it at once one fails with a duplicate, and then finds it.
		return isDuplicate(err), err
	})
	if err != nil {
		return fmt.Errorf("open database %s: make schema %s: %w", db, schema, err)
	}
	return nil
}
