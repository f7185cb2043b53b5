package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
)

// noCursor is where a hook is that was never anywhere.
const noCursor int64 = -1

// ErrMoved says that a cursor is not where its user believes it to be: another
// appliance has moved it.
var ErrMoved = errors.New("another appliance has moved the cursor")

// Cursor keeps how far hooks are. For a fleet it is in the database that the
// events are in, as a table of hook and event:
//
//	from -1:  INSERT … ON CONFLICT DO NOTHING
//	else:     UPDATE … SET event = to WHERE hook = … AND event = from
//
// where no row affected means ErrMoved.
type Cursor interface {
	// Load is the last event that a hook is done with; ok is false for one that
	// was never saved.
	Load(ctx context.Context, hook string) (id int64, ok bool, err error)
	// Save moves a cursor that is at from; -1 makes one where none is. ErrMoved
	// when it is elsewhere.
	Save(ctx context.Context, hook string, from, to int64) error
}

// FileCursor keeps cursors in files of a folder, for one appliance. The folder
// is made when it is first needed.
type FileCursor struct {
	Dir string

	mu sync.Mutex
}

// position is a file's content.
type position struct {
	Hook  string `json:"hook"`
	Event int64  `json:"event"`
}

func (c *FileCursor) path(hook string) string {
	return filepath.Join(c.Dir, url.PathEscape(hook)+".cursor")
}

// Load implements Cursor.
func (c *FileCursor) Load(_ context.Context, hook string) (int64, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(hook)
}

func (c *FileCursor) load(hook string) (int64, bool, error) {
	text, err := os.ReadFile(c.path(hook))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, fmt.Errorf("read the cursor of webhook %s: %w", hook, err)
	}
	var p position
	if err := json.Unmarshal(text, &p); err != nil || p.Hook != hook || p.Event < 0 {
		return 0, false, fmt.Errorf("read the cursor of webhook %s: %s is damaged: remove it, and the webhook goes on with what happens from then on", hook, c.path(hook))
	}
	return p.Event, true, nil
}

// Save implements Cursor. The file is replaced whole.
func (c *FileCursor) Save(_ context.Context, hook string, from, to int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok, err := c.load(hook)
	if err != nil {
		return err
	}
	if ok != (from != noCursor) || (ok && at != from) {
		return ErrMoved
	}
	text, err := json.Marshal(position{hook, to})
	if err != nil {
		return fmt.Errorf("write the cursor of webhook %s: %w", hook, err)
	}
	if err := replaceFile(c.path(hook), text); err != nil {
		return fmt.Errorf("write the cursor of webhook %s: %w", hook, err)
	}
	return nil
}

// replaceFile writes a file so that after a crash it is the old or the new one.
func replaceFile(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cursor-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
