package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"snapferry/schedule"
)

// alive is this appliance's place in the fleet.
type alive interface {
	// join takes the place, or says who has it.
	join(ctx context.Context) error
	// keep holds it until ctx ends, and looks after the others.
	keep(ctx context.Context)
	// present writes this appliance's row, if the place is still ours.
	present(ctx context.Context) error
	// doubtful reports that the fleet may have given this appliance up.
	doubtful() bool
	// exclusive runs f while nobody else in the fleet runs one of this name; it
	// waits for that.
	exclusive(ctx context.Context, name string, f func(context.Context) error) error
	// leave gives the place back.
	leave(ctx context.Context)
}

// fileLock is the place of the only appliance that works on a SQLite file.
type fileLock struct {
	e    *Engine
	file *os.File
}

// join locks a file beside the database. A lock on the database itself would
// be SQLite's own.
func (l *fileLock) join(ctx context.Context) error {
	path, err := sqliteFile(ctx, l.e.SQL)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".engine", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock database %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("another process already runs on database %s: a SQLite file serves one appliance; several need PostgreSQL", path)
		}
		return fmt.Errorf("lock database %s: %w", path, err)
	}
	l.file = f
	return l.alone(ctx)
}

// alone gives up all other appliances that the file knows: nobody else works
// on it, so they are this one under an earlier ID.
func (l *fileLock) alone(ctx context.Context) error {
	all, err := l.e.Store.Appliances(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.ID == l.e.Appliance || !a.Alive {
			continue
		}
		if _, err := l.e.Store.Lost(ctx, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// seenEvery is how often an appliance's row says that it was seen.
const seenEvery = 10 * time.Second

func (l *fileLock) keep(ctx context.Context) {
	l.e.every(ctx, seenEvery, "say that this appliance lives", l.present)
}

func (l *fileLock) present(ctx context.Context) error { return l.e.Store.SaveAppliance(ctx, l.e.me()) }
func (l *fileLock) doubtful() bool                    { return false }
func (l *fileLock) leave(context.Context)             { l.file.Close() }

func (l *fileLock) exclusive(ctx context.Context, _ string, f func(context.Context) error) error {
	return f(ctx)
}

func aloneAnyway(ctx context.Context, _ string, f func(context.Context) error) error { return f(ctx) }

// sqliteFile is the path of the main database.
func sqliteFile(ctx context.Context, db *sql.DB) (string, error) {
	var seq int
	var name, path string
	err := db.QueryRowContext(ctx, `SELECT seq, name, file FROM pragma_database_list WHERE name = 'main'`).Scan(&seq, &name, &path)
	if err != nil {
		return "", fmt.Errorf("ask for the database's file: %w", err)
	}
	if path == "" {
		return "", errors.New("the database is in memory: runs must outlive the process")
	}
	return path, nil
}

// downAlarm is that of an appliance that was lost.
func downAlarm(a schedule.Appliance) schedule.Alarm {
	return schedule.Alarm{Key: applianceKey(a.ID), Kind: schedule.AlarmAppliance,
		Text: fmt.Sprintf("appliance %s does not answer; its runs go to others", a.ID),
		Hint: "Start it again, or look whether its host and network are well."}
}
