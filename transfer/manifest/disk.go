package manifest

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Dir is the folder that holds the tables of all VMs.
type Dir string

// VM is the folder of one VM. At most one cycle works in it at a time.
type VM struct {
	path string
	lock *os.File
}

// ErrBusy is returned by Lock while another process has the VM.
var ErrBusy = errors.New("another cycle of this VM is running on this machine")

// Lock opens the folder of a VM for one cycle. The lock ends with the process
// if not with Unlock.
func (d Dir) Lock(vcenter, moref string) (*VM, error) {
	path := filepath.Join(string(d), name(vcenter), name(moref))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return &VM{path: path, lock: f}, nil
}

// Find opens the manifest of a snapshot, as sealed by a cycle, for reading,
// without a lock; nil where there is none.
func (d Dir) Find(vcenter, moref, disk, snapshot, cycle string) *Table {
	vm := VM{path: filepath.Join(string(d), name(vcenter), name(moref))}
	for _, file := range []string{current, next} {
		t, err := Open(filepath.Join(vm.path, name(disk), file))
		if err != nil {
			continue
		}
		if t.Header().describes(snapshot, cycle) {
			return t
		}
		t.Close()
	}
	return nil
}

// name makes one path element of an identifier, whatever is in it.
func name(id string) string {
	if id == "." || id == ".." || id == "" {
		return "_" + id
	}
	return url.PathEscape(id)
}

// Unlock gives the VM back.
func (v *VM) Unlock() error { return v.lock.Close() }

// Forget deletes what is kept of the VM's disks: the next cycle copies them
// whole. The lock stays.
func (v *VM) Forget() error {
	entries, err := os.ReadDir(v.path)
	for _, e := range entries {
		if !e.IsDir() { // the lock
			continue
		}
		if rerr := os.RemoveAll(filepath.Join(v.path, e.Name())); err == nil {
			err = rerr
		}
	}
	if err != nil {
		return fmt.Errorf("delete what is kept of the VM: %w", err)
	}
	return nil
}

// Disk opens the folder of one disk, made if need be.
func (v *VM) Disk(id string) (*Disk, error) {
	path := filepath.Join(v.path, name(id))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder of disk: %w", err)
	}
	return &Disk{path: path}, nil
}

// Disk is the folder of one disk: the manifest of its newest sealed snapshot,
// the journal of a draft, and, between a seal and a commit, the next manifest.
type Disk struct{ path string }

const (
	current = "manifest"
	next    = "manifest.next"
	journal = "draft"
	audited = "audited"
)

func (d *Disk) file(name string) string { return filepath.Join(d.path, name) }

// describes reports whether a manifest is of this snapshot as that cycle
// sealed it.
func (h Header) describes(snapshot, cycle string) bool {
	return snapshot != "" && h.Snapshot == snapshot && h.Cycle == cycle
}

// Load returns the manifest of snapshot as sealed by cycle, or nil where none describes it. A
// next manifest that describes it is committed first: the process ended
// between the seal and the commit.
func (d *Disk) Load(snapshot, cycle string) (*Table, error) {
	for _, f := range []string{next, current} {
		t, err := Open(d.file(f))
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, ErrCorrupt):
			continue // a cache: as good as not there
		case err != nil:
			return nil, err
		}
		if !t.Header().describes(snapshot, cycle) {
			t.Close()
			continue
		}
		if f == next {
			if err := d.Commit(); err != nil {
				t.Close()
				return nil, err
			}
		}
		return t, nil
	}
	return nil, nil
}

// StartJournal makes an empty journal in place of any older one.
func (d *Disk) StartJournal(h Header) (*Table, error) {
	t, err := Create(d.file(journal), h)
	if err != nil {
		return nil, err
	}
	if err := syncDir(d.path); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// OpenJournal returns the journal of a draft that was neither sealed nor
// dropped, or nil where there is none.
func (d *Disk) OpenJournal() (*Table, error) {
	t, err := Open(d.file(journal))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrCorrupt) {
		return nil, nil
	}
	return t, err
}

// Prepare writes the next manifest: what base says, and over it what the
// journal says. A nil base is one in which every slot is empty. It does not
// count before Commit.
func (d *Disk) Prepare(h Header, base, put *Table) (*Table, error) {
	t, err := Create(d.file(next), Header{Blocks: h.Blocks})
	if err != nil {
		return nil, err
	}
	if base != nil {
		err = t.copySlots(base)
	}
	if err == nil && put != nil {
		err = put.Each(func(i int64, digest Digest, set bool) error {
			if !set {
				return nil
			}
			return t.Set(i, digest)
		})
	}
	if err == nil {
		err = t.SetHeader(h)
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("prepare manifest of %s: %w", h.Snapshot, err)
	}
	return t, nil
}

func (t *Table) copySlots(from *Table) error {
	n := min(t.header.Blocks, from.header.Blocks) * slotSize
	if _, err := t.f.Seek(slotsAt, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(t.f, io.NewSectionReader(from.f, slotsAt, n))
	return err
}

// Commit makes the next manifest the current one and drops the journal.
func (d *Disk) Commit() error {
	if err := os.Rename(d.file(next), d.file(current)); err != nil {
		return fmt.Errorf("commit manifest: %w", err)
	}
	return d.DropJournal()
}

// DropJournal forgets the draft.
func (d *Disk) DropJournal() error {
	if err := os.Remove(d.file(journal)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop journal: %w", err)
	}
	return syncDir(d.path)
}

// Audited is when the disk was last audited or read whole; zero when nobody
// knows.
func (d *Disk) Audited() time.Time {
	text, err := os.ReadFile(d.file(audited))
	if err != nil {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339, string(text)) // what cannot be read is zero
	return t
}

// SetAudited records an audit.
func (d *Disk) SetAudited(t time.Time) error {
	if err := os.WriteFile(d.file(audited), []byte(t.UTC().Format(time.RFC3339)), 0o600); err != nil {
		return fmt.Errorf("note audit: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}
