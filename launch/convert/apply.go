package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// changeLimit bounds one change: dracut took 108 s for one kernel in software
// emulation on an idle machine.
const changeLimit = 20 * time.Minute

// Made is a change that was made, and how long it took.
type Made struct {
	Change
	Took   time.Duration `json:"tookNs"`
	Output string        `json:"output,omitempty"` // the end of what a program said
}

// apply makes the changes of a plan, in their order. The guest is mounted
// writable when it begins, and unmounted when it returned without an error. It
// ends at the first that fails: a guest that is changed in part is worth
// nothing, and the overlay is thrown away.
func (s *session) apply(ctx context.Context, f Facts, plan Plan) ([]Made, error) {
	if err := s.mountAll(ctx, f, false); err != nil {
		return nil, err
	}
	var made []Made
	for _, c := range plan.Changes {
		began := time.Now()
		out, err := s.change(ctx, c)
		if err != nil {
			return made, fmt.Errorf("change the guest (%s): %w", c.What, err)
		}
		made = append(made, Made{Change: c, Took: time.Since(began), Output: lastLines(out)})
	}
	return made, s.unmount(ctx, f)
}

// lastLines keeps reports readable.
func lastLines(s string) string {
	const n = 512
	s = strings.TrimSpace(strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > n {
		s = "… " + strings.ToValidUTF8(s[len(s)-n:], "")
	}
	return s
}

func (s *session) change(ctx context.Context, c Change) (string, error) {
	switch c.Do {
	case DeedWrite:
		return "", s.write(ctx, c)
	case DeedMove, DeedCopy:
		return "", s.place(ctx, c)
	case DeedRun:
		// libguestfs gives back the standard output of a program that succeeds and
		// the standard error of one that fails: both are worth having in either.
		const log = "/var/tmp/change.log"
		command := "cd / && PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/var/tmp LC_ALL=C " + shellWords(c.Args)
		return s.do(ctx, changeLimit, "sh", "( "+command+" ) >"+log+" 2>&1 </dev/null; rc=$?; tail -c 4096 "+log+"; [ $rc = 0 ] || { tail -c 4096 "+log+" >&2; exit $rc; }")
	case DeedHive:
		return "", s.changeHive(ctx, c)
	case DeedLay:
		return "", s.lay(ctx, c)
	}
	return "", fmt.Errorf("nobody knows how to %q", c.Do)
}

// shellWords quotes words for sh.
func shellWords(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

func (s *session) write(ctx context.Context, c Change) error {
	if _, err := s.do(ctx, lookLimit, "mkdir-p", path.Dir(c.Path)); err != nil {
		return err
	}
	there, err := s.do(ctx, lookLimit, "is-file", c.Path, "followsymlinks:true")
	if err != nil {
		return err
	}
	if err := s.upload(ctx, c.Content, c.Path); err != nil {
		return err
	}
	if strings.TrimSpace(there) == "true" {
		return nil // it keeps its owner and mode
	}
	_, err = s.do(ctx, lookLimit, "chmod", fmt.Sprintf("0%o", c.Mode), c.Path)
	return err
}

func (s *session) place(ctx context.Context, c Change) error {
	command := []string{"mv", c.Path, c.To}
	if c.Do == DeedCopy {
		command[0] = "cp-a"
	}
	if _, err := s.do(ctx, lookLimit, "mkdir-p", path.Dir(c.To)); err != nil {
		return err
	}
	_, err := s.do(ctx, lookLimit, command[0], command[1:]...)
	return err
}

func (s *session) changeHive(ctx context.Context, c Change) error {
	real, err := s.do(ctx, lookLimit, "case-sensitive-path", c.Path)
	if err != nil {
		return err
	}
	real = strings.TrimSpace(real)
	local := s.w.file("hive")
	defer os.Remove(local)
	if _, err := s.do(ctx, hiveLimit, "download", real, local); err != nil {
		return err
	}
	if err := s.w.mergeHive(ctx, local, path.Base(c.Path), c.Content); err != nil {
		return err
	}
	_, err = s.do(ctx, hiveLimit, "upload", local, real)
	return err
}

// lay copies the regular files of a folder of the connector's into the guest.
func (s *session) lay(ctx context.Context, c Change) error {
	if _, err := s.do(ctx, lookLimit, "mkdir-p", c.To); err != nil {
		return err
	}
	found := false
	err := filepath.WalkDir(c.Path, func(p string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.Path, p)
		if err != nil || rel == "." {
			return err
		}
		to := path.Join(c.To, filepath.ToSlash(rel))
		switch {
		case e.IsDir():
			_, err = s.do(ctx, lookLimit, "mkdir-p", to)
		case e.Type().IsRegular():
			found = found || strings.EqualFold(filepath.Ext(p), ".inf")
			_, err = s.do(ctx, changeLimit, "upload", p, to)
		}
		return err
	})
	if err == nil && !found {
		err = errors.New("there is no .inf file in it")
	}
	if err != nil {
		return fmt.Errorf("lay in the driver packages of %s: %w", c.Path, err)
	}
	return nil
}
