package vsphere

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// FuzzPages feeds pages of QueryChangedDiskAreas: numbers of eight bytes, for
// each page its offset, its length, how many areas, and these. Whatever vCenter
// answers, the question ends, and areas that come out are in order, inside the
// disk and inside their pages; an answer that is refused means a lost baseline.
func FuzzPages(f *testing.F) {
	const size = 8 << 20
	numbers := func(n ...int64) (b []byte) {
		for _, v := range n {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	f.Add(numbers(0, size, 2, 0, 65536, 1<<20, 65536))
	f.Add(numbers(0, 1<<20, 1, 0, 65536, 1<<20, 7<<20, 1, 2<<20, 65536))
	f.Add(numbers(0, 65536, 0, 65536, size-65536, 1, 65536, 512))
	f.Add(numbers(0, size, 1, size-512, 1024))
	f.Add(numbers(65536, size, 0))
	f.Add(numbers(0, -1, 0))
	f.Add(numbers(0, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func() (v int64) {
			if len(b) >= 8 {
				v, b = int64(binary.LittleEndian.Uint64(b)), b[8:]
			} else {
				b = nil
			}
			return v
		}
		calls := 0
		answer := tripperFunc(func(_, res soap.HasFault) error {
			if calls++; calls > size/trackingGrain+3 {
				t.Fatal("asked without an end")
			}
			if len(b) == 0 {
				return errors.New("the input is over")
			}
			info := types.DiskChangeInfo{StartOffset: next(), Length: next()}
			for n := next() & 15; n > 0; n-- {
				info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: next(), Length: next()})
			}
			res.(*methods.QueryChangedDiskAreasBody).Res = &types.QueryChangedDiskAreasResponse{Returnval: info}
			return nil
		})
		disk := transfer.Disk{ID: transfer.DiskID{Key: 2000, UUID: "6000c29"}, Size: size}
		fr := frozen{c: &Client{vim: &vim25.Client{RoundTripper: answer}}, state: transfer.FrozenVM{VM: transfer.VM{Disks: []transfer.Disk{disk}}}}
		var end int64
		err := fr.Areas(t.Context(), disk.ID, "epoch/1", func(e transfer.Extent) error {
			if e.Offset < end || e.Length <= 0 || e.Length > size-e.Offset {
				t.Fatalf("area %v behind %d", e, end)
			}
			end = e.End()
			return nil
		})
		var explained *transfer.Error
		if err != nil && !errors.As(err, &explained) {
			t.Fatalf("not classified: %v", err)
		}
	})
}

// FuzzMark: descriptions of VM snapshots are anybody's. What is taken for a mark
// of ours names a cycle, and reads the same when it is written again.
func FuzzMark(f *testing.F) {
	f.Add(newMark(transfer.FreezeSpec{Cycle: "20260501T000000.000Z-01020304", Appliance: "ferry-1"}))
	f.Add(`{"tool":"snapferry","format":2,"appliance":"a","cycle":"c","later":{"x":[1]}}`)
	f.Add(`{"tool":"snapferry","format":0,"cycle":"c"}`)
	f.Add(`{"tool":"veeam"}`)
	f.Add("nightly backup")
	f.Add(`{"tool":"snapferry","format":1,"cycle":""}`)
	f.Fuzz(func(t *testing.T, description string) {
		m, ok := readMark(description)
		if !ok {
			return
		}
		if m.Tool != markTool || m.Cycle == "" || m.Format < 1 {
			t.Fatalf("taken for a mark: %q", description)
		}
		text, err := json.Marshal(m)
		if again, ok := readMark(string(text)); err != nil || !ok || again != m {
			t.Errorf("%+v, then %+v (%v)", m, again, err)
		}
	})
}
