package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Name is a VM that has a folder here.
type Name struct{ VCenter, Moref string }

// VMs lists the VMs that have a folder, ordered by vCenter and moref. A Dir
// that does not exist has none; what cannot be a folder of ours is left out.
func (d Dir) VMs() ([]Name, error) {
	var all []Name
	vcenters, err := folders(string(d))
	if err != nil {
		return nil, err
	}
	for _, vc := range vcenters {
		vms, err := folders(filepath.Join(string(d), vc))
		if err != nil {
			return nil, err
		}
		for _, vm := range vms {
			v, ok1 := unname(vc)
			m, ok2 := unname(vm)
			if ok1 && ok2 {
				all = append(all, Name{VCenter: v, Moref: m})
			}
		}
	}
	return all, nil
}

// folders are the names of the folders in path, none where it does not exist.
func folders(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list state folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// unname is the identifier of which name made a path element; ok is false for
// an element that name does not make.
func unname(element string) (id string, ok bool) {
	switch element {
	case "_", "_.", "_..":
		return element[1:], true
	}
	id, err := url.PathUnescape(element)
	return id, err == nil && name(id) == element
}

// Held reports whether a cycle works on a VM now, here or in another process
// of this machine. It makes no folder. The answer is of the past as soon as it
// is given: who acts on it takes the lock.
func (d Dir) Held(vcenter, moref string) (bool, error) {
	f, err := os.Open(filepath.Join(string(d), name(vcenter), name(moref), "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open lock: %w", err)
	}
	defer f.Close() // and with it goes what was locked
	// Shared, so that two who only ask do not see each other.
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("try lock %s: %w", f.Name(), err)
	}
	return false, nil
}

// Journal is the journal of a draft that was neither sealed nor dropped.
type Journal struct {
	Disk    string // as given to VM.Disk
	Header  Header
	Written time.Time // the last time that anything was: about the last put
}

// Journals lists the journals of a VM, ordered by disk. A file that is no
// journal is left out, since no cycle can go on with it. Without the VM's lock
// the answer may be of the past.
func (d Dir) Journals(vcenter, moref string) ([]Journal, error) {
	path := filepath.Join(string(d), name(vcenter), name(moref))
	disks, err := folders(path)
	if err != nil {
		return nil, err
	}
	var all []Journal
	for _, element := range disks {
		id, ok := unname(element)
		if !ok {
			continue
		}
		j, err := readJournal(filepath.Join(path, element, journal))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		j.Disk = id
		all = append(all, j)
	}
	return all, nil
}

func readJournal(path string) (Journal, error) {
	t, err := Open(path)
	if err != nil {
		return Journal{}, err
	}
	defer t.Close()
	st, err := t.f.Stat()
	if err != nil {
		return Journal{}, fmt.Errorf("look at journal: %w", err)
	}
	return Journal{Header: t.Header(), Written: st.ModTime()}, nil
}
