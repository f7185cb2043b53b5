package scenario

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"snapferry/test/memory"
	"snapferry/transfer"
)

// Memory is the world of the fakes.
func Memory(*testing.T) *World {
	store := memory.NewStore()
	var mu sync.Mutex
	var vms []*memory.VM
	w := &World{
		Name: "memory", Store: store, Image: store.Image,
		EncryptByDefault: func(on bool) { store.DefaultEncryption = on },
		Calls:            func() transfer.Calls { return transfer.Calls{} },
	}
	w.Drafts = store.Pending
	w.NewVM = func(_ *testing.T, disks ...Disk) *VM {
		mu.Lock()
		defer mu.Unlock()
		vm := memory.NewVM(fmt.Sprint("vm", len(vms)))
		vms = append(vms, vm)
		return newMemoryVM(vm, disks)
	}
	w.Left = func() (left []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, vm := range vms {
			if s, a := vm.Left(); s+a > 0 {
				left = append(left, fmt.Sprintf("%d VM snapshots and %d attached disks", s, a))
			}
		}
		return left
	}
	return w
}

func newMemoryVM(vm *memory.VM, disks []Disk) *VM {
	v := &VM{
		Source: vm,
		Guest:  func(i int) Guest { return vm.Disk(i) },
		Grow:   func(i int, size int64) error { vm.Disk(i).Grow(size); return nil },
	}
	vm.Edit(func(info *transfer.VM) { v.ID = info.ID })
	for i, d := range disks {
		v.Disks = append(v.Disks, vm.AddDisk(int32(2000+i), d.Size).Info().ID)
	}
	v.ResetCBT = func() {
		for i := range disks {
			vm.Disk(i).ResetCBT()
		}
	}
	kept := map[string]*memory.Frozen{}
	vm.OnFreeze = func(f *memory.Frozen) { kept[strings.TrimPrefix(f.State().SnapshotName, "snapferry-")] = f }
	v.Frozen = func(cycle transfer.CycleID, i int) (io.ReaderAt, error) {
		f := kept[string(cycle)]
		if f == nil {
			return nil, fmt.Errorf("cycle %s froze nothing", cycle)
		}
		image, _ := f.Image(v.Disks[i])
		return image, nil
	}
	return v
}
