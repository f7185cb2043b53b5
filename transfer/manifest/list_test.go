package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapferry/transfer/manifest"
)

func TestVMsAreListedByTheirOwnNames(t *testing.T) {
	dir := manifest.Dir(filepath.Join(t.TempDir(), "not there yet"))
	if vms, err := dir.VMs(); err != nil || len(vms) != 0 {
		t.Errorf("no folder: %v, %v", vms, err)
	}
	want := []manifest.Name{}
	for _, moref := range []string{"", "../vm-1", ".", "_x", "vm 2/3", "vm-1"} {
		vm, err := dir.Lock("vc/1", moref)
		if err != nil {
			t.Fatal(err)
		}
		vm.Unlock()
		want = append(want, manifest.Name{VCenter: "vc/1", Moref: moref})
	}
	// What others put there is not taken for a VM.
	if err := os.WriteFile(filepath.Join(string(dir), "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(string(dir), "bad%zz", "vm-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := dir.VMs()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%+v is not in %+v", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d VMs, want %d: %+v", len(got), len(want), got)
	}
}

func TestHeldTellsALockAndTakesNone(t *testing.T) {
	dir := manifest.Dir(t.TempDir())
	held := func() bool {
		t.Helper()
		is, err := dir.Held("vc", "vm-1")
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if held() {
		t.Error("a VM without a folder is held")
	}
	if entries, _ := os.ReadDir(string(dir)); len(entries) != 0 {
		t.Error("asking made a folder")
	}
	vm, err := dir.Lock("vc", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	if !held() {
		t.Error("a locked VM is not held")
	}
	if _, err := dir.Lock("vc", "vm-1"); !errors.Is(err, manifest.ErrBusy) {
		t.Errorf("asking ended the lock: %v", err)
	}
	vm.Unlock()
	if held() {
		t.Error("held after unlock")
	}
	if vm, err = dir.Lock("vc", "vm-1"); err != nil {
		t.Errorf("asking kept the lock: %v", err)
	} else {
		vm.Unlock()
	}
}

func TestJournalsNameDrafts(t *testing.T) {
	dir := manifest.Dir(t.TempDir())
	if all, err := dir.Journals("vc", "vm-1"); err != nil || len(all) != 0 {
		t.Errorf("no folder: %v, %v", all, err)
	}
	vm, err := dir.Lock("vc", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Unlock()
	for id, snapshot := range map[string]string{"2000/a": "snap-1", "2001/b": "", "2002/c": "snap-3"} {
		d, err := vm.Disk(id)
		if err != nil {
			t.Fatal(err)
		}
		j, err := d.StartJournal(manifest.Header{Snapshot: snapshot, Blocks: 4, Spec: []byte(`{"token":"x"}`)})
		if err != nil {
			t.Fatal(err)
		}
		j.Close()
	}
	c, err := vm.Disk("2002/c")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.DropJournal(); err != nil {
		t.Fatal(err)
	}
	if d, err := vm.Disk("2003/d"); err != nil {
		t.Fatal(err)
	} else if j, err := d.StartJournal(manifest.Header{Blocks: 4}); err != nil {
		t.Fatal(err)
	} else {
		j.Close()
	}
	broken := filepath.Join(string(dir), "vc", "vm-1", "2003%2Fd", "draft")
	if err := os.WriteFile(broken, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-80 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(string(dir), "vc", "vm-1", "2000%2Fa", "draft"), old, old); err != nil {
		t.Fatal(err)
	}
	all, err := dir.Journals("vc", "vm-1")
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if a := all[0]; a.Disk != "2000/a" || a.Header.Snapshot != "snap-1" || string(a.Header.Spec) != `{"token":"x"}` || !a.Written.Equal(old) {
		t.Errorf("%+v", a)
	}
	if b := all[1]; b.Disk != "2001/b" || b.Header.Snapshot != "" || time.Since(b.Written) > time.Hour {
		t.Errorf("%+v", b)
	}
}
