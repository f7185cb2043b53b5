package hotadd

import (
	"testing"

	"snapferry/transfer"
)

// FuzzSlotMark: extraConfig is anybody's. What is taken for a mark of a disk
// names its file and its cycle, and reads the same when it is written again.
func FuzzSlotMark(f *testing.F) {
	m := Mark{Appliance: "ferry-1", Cycle: "20260501T000000.000Z-01020304", VM: "vm-12", Disk: transfer.DiskID{Key: 2000, UUID: "6000c29"}, File: "[vmfs1] a/a.vmdk"}
	f.Add(markKey(1000, 3), m.String())
	f.Add("snapferry.disk.1000", m.String())
	f.Add("snapferry.disk.99999999999:3", m.String())
	f.Add("snapferry.disk.-1:-1", m.String())
	f.Add("scsi0:3.ctkEnabled", "TRUE")
	f.Add(markKey(1000, 3), `{"file":7}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		c, u, m, ok := readMark(key, value)
		if !ok {
			return
		}
		if m.File == "" || m.Cycle == "" {
			t.Fatalf("taken for a mark: %q = %q", key, value)
		}
		c2, u2, m2, ok := readMark(markKey(c, u), m.String())
		if !ok || c2 != c || u2 != u || m2 != m {
			t.Errorf("%d:%d %+v, then %d:%d %+v", c, u, m, c2, u2, m2)
		}
	})
}
