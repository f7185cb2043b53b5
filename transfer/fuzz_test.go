package transfer_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapferry/transfer"
)

// FuzzAreas feeds offsets and lengths as vSphere might give them: eight bytes
// each, behind the disk's size. What passes is in order and inside, and marks
// exactly the blocks that it touches.
func FuzzAreas(f *testing.F) {
	pairs := func(size int64, n ...int64) []byte {
		b := binary.LittleEndian.AppendUint64(nil, uint64(size))
		for _, v := range n {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	const most = int64(^uint64(0) >> 1)
	f.Add(pairs(4*mib, 0, 65536, 65536, 65536, 3*mib, mib))
	f.Add(pairs(4*mib, 65536, 65536, 0, 65536))
	f.Add(pairs(4*mib, 3*mib, 2*mib))
	f.Add(pairs(4*mib, most, most))
	f.Add(pairs(4*mib, 1, most))
	f.Add(pairs(4*mib, -1, 2))
	f.Add(pairs(4*mib, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func() (v int64, ok bool) {
			if len(b) < 8 {
				return 0, false
			}
			v, b = int64(binary.LittleEndian.Uint64(b)), b[8:]
			return v, true
		}
		size, _ := next()
		size = 1 + size&(64*mib-1)
		set, touched, end := transfer.NewBlockSet(transfer.VolumeBlocks(size)), map[int64]bool{}, int64(0)
		yield := transfer.CheckAreas(size, func(e transfer.Extent) error {
			if e.Offset < end || e.Length <= 0 || e.End() > size || e.End() < e.Offset {
				t.Fatalf("%v passed, behind %d, on a disk of %d", e, end, size)
			}
			end = e.End()
			set.AddExtent(e)
			for i := e.Offset / transfer.BlockSize; i*transfer.BlockSize < e.End(); i++ {
				touched[i] = true
			}
			return nil
		})
		for {
			off, _ := next()
			length, ok := next()
			if !ok {
				break
			}
			if err := yield(transfer.Extent{Offset: off, Length: length}); err != nil {
				if transfer.KindOf(err) != transfer.BaselineLost {
					t.Fatalf("%v: %v", transfer.KindOf(err), err)
				}
				break
			}
		}
		if set.Len() != int64(len(touched)) {
			t.Fatalf("%d blocks in the set, %d touched", set.Len(), len(touched))
		}
		for i := range set.All() {
			if !touched[i] {
				t.Fatalf("block %d is in the set and was not touched", i)
			}
		}
	})
}

// FuzzChangeIDs: whatever two strings are taken for change IDs, a delta is made
// only between two of one epoch, in their order.
func FuzzChangeIDs(f *testing.F) {
	f.Add("52 de c0 d9-61 d5/4", "52 de c0 d9-61 d5/5")
	f.Add("52 de c0 d9-61 d5/4", "52 de c0 d9-61 d5/18446744073709551616")
	f.Add("a/4", "b/5")
	f.Add("a/5", "a/4")
	f.Add("a", "a")
	f.Add("/1", "/2")
	f.Add("*", "*")
	f.Add("a/1/2", "a/1/3")
	f.Fuzz(func(t *testing.T, before, now string) {
		base := transfer.Snapshot{ID: "snap-1", State: transfer.Completed, VolumeGiB: 1,
			Label: transfer.Label{DiskSize: mib, ChangeID: transfer.ChangeID(before)}}
		p, err := transfer.Decide(transfer.PlanInput{Disk: transfer.Disk{Size: mib, ChangeID: transfer.ChangeID(now)}, Base: &base, Known: transfer.KnownWhole})
		if err != nil {
			t.Fatal(err)
		}
		epochBefore, seqBefore, _ := strings.Cut(before, "/")
		epochNow, seqNow, _ := strings.Cut(now, "/")
		switch {
		case p.Kind != transfer.Delta && p.Kind != transfer.Compare:
			t.Errorf("%s", p.Kind)
		case p.Kind == transfer.Delta && (epochBefore != epochNow || seqBefore == "" || seqNow == "" || p.Since != base.Label.ChangeID):
			t.Errorf("a delta from %q to %q, since %q", before, now, p.Since)
		case p.Kind == transfer.Compare && p.Since != "":
			t.Errorf("a compare asks for changes since %q", p.Since)
		}
	})
}

// FuzzJournal: what stands in the file of a journal or a manifest decides what
// a cycle costs, never what its point holds. The input replaces the file from
// an offset on; a file that is overwritten in place is what a bad disk leaves.
func FuzzJournal(f *testing.F) {
	for _, file := range []string{"draft", "manifest"} {
		f.Add(file == "draft", 0, []byte{})
		f.Add(file == "draft", 30, []byte(`"blocks":99999999`))
		f.Add(file == "draft", 128<<10, make([]byte, 64))
		f.Add(file == "draft", 64<<10, []byte("snapferry digests 1\n"))
	}
	f.Fuzz(func(t *testing.T, draft bool, at int, b []byte) {
		r := newRig(t, 6*transfer.BlockSize)
		write(t, r.vm.Disk(0), 1, 0, 6*transfer.BlockSize)
		r.must(transfer.Options{})
		write(t, r.vm.Disk(0), 2, 0, 4*transfer.BlockSize)
		r.interrupt(2, transfer.Options{})
		name := map[bool]string{true: "draft", false: "manifest"}[draft]
		files, err := filepath.Glob(filepath.Join(string(r.state), "*", "*", "*", name))
		if err != nil || len(files) != 1 {
			t.Fatalf("files %v, %v", files, err)
		}
		overwrite(t, files[0], at, b)
		write(t, r.vm.Disk(0), 3, transfer.BlockSize, 10)
		if _, err := r.sync(transfer.Options{}); err != nil {
			if transfer.KindOf(err) != transfer.Retry {
				t.Fatalf("%v: %v", transfer.KindOf(err), err)
			}
			r.must(transfer.Options{})
		}
		r.same()
	})
}

// overwrite writes b into a file at an offset, or cuts it there where b is empty.
func overwrite(t *testing.T, path string, at int, b []byte) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	off := int64(uint64(at) % uint64(st.Size()))
	if len(b) == 0 {
		err = os.Truncate(path, off)
	} else {
		var file *os.File
		if file, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			_, err = file.WriteAt(b, off)
			_ = file.Close() // written to a file system that is read at once
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
