package vsphere_test

import (
	"fmt"
	"testing"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// TestCallsOfAQuietCycle: login, lookup, one cycle without changes, logout.
func TestCallsOfAQuietCycle(t *testing.T) {
	for _, disks := range []int{1, 2, 8} {
		t.Run(fmt.Sprint(disks), func(t *testing.T) {
			e := start(t)
			sizes := make([]int64, disks)
			for i := range sizes {
				sizes[i] = 4 * mib
			}
			vm := e.vm("app01", sizes...)
			seed := e.freeze(vm)
			ids := map[transfer.DiskID]transfer.ChangeID{}
			for _, d := range seed.State().VM.Disks {
				ids[d.ID] = d.ChangeID
			}
			e.release(seed)

			e.v.ResetCalls()
			c, err := vsphere.Dial(e.ctx, e.config())
			if err != nil {
				t.Fatal(err)
			}
			found, err := c.Find(e.ctx, "app01")
			if err != nil {
				t.Fatal(err)
			}
			src := c.Source(found.ID, vsphere.Options{})
			if _, err := src.Inspect(e.ctx); err != nil {
				t.Fatal(err)
			}
			f, err := src.Freeze(e.ctx, spec())
			if err != nil {
				t.Fatal(err)
			}
			for i, d := range f.State().VM.Disks {
				if areas, err := e.areas(f, i, ids[d.ID]); err != nil || len(areas) != 0 {
					t.Fatalf("areas %v, %v", areas, err)
				}
			}
			e.release(f)
			if err := c.Close(e.ctx); err != nil {
				t.Fatal(err)
			}
			n, text := sum(e.v.Calls())
			if most := 30 + 2*disks; n > most {
				t.Errorf("%d calls with %d disks, want at most %d:%s", n, disks, most, text)
			}
			if c.Calls() != int64(n) {
				t.Errorf("the client counted %d calls, the vCenter %d", c.Calls(), n)
			}
			t.Logf("%d calls with %d disks:%s", n, disks, text)
			e.clean()
		})
	}
}
