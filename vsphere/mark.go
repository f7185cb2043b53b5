package vsphere

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// SnapshotPrefix begins the names of our VM snapshots; the cycle's ID follows.
// The name is for people: what is ours, the description says.
const SnapshotPrefix = "snapferry-"

// mark is the description of a VM snapshot of ours. It proves ownership.
type mark struct {
	Tool      string               `json:"tool"`   // "snapferry"
	Format    int                  `json:"format"` // of this mark
	Appliance transfer.ApplianceID `json:"appliance"`
	Cycle     transfer.CycleID     `json:"cycle"`
}

const (
	markTool   = "snapferry"
	markFormat = 1
)

func newMark(s transfer.FreezeSpec) string {
	text, _ := json.Marshal(mark{markTool, markFormat, s.Appliance, s.Cycle}) // strings and an int cannot fail
	return string(text)
}

// readMark reports whether a description is a mark of ours, of any appliance.
// Fields that a later format adds are ignored: it still is ours.
func readMark(description string) (mark, bool) {
	var m mark
	err := json.Unmarshal([]byte(description), &m)
	return m, err == nil && m.Tool == markTool && m.Format >= 1 && m.Cycle != ""
}

// OwnSnapshot is a VM snapshot that carries our mark.
type OwnSnapshot struct {
	Moref     string
	Name      string
	Appliance transfer.ApplianceID // whose it is
	Cycle     transfer.CycleID
	Created   time.Time
}

// OurSnapshots lists a VM's snapshots that carry our mark, those of other
// appliances among them. A crash leaves at most one.
func (c *Client) OurSnapshots(ctx context.Context, id transfer.VMID) ([]OwnSnapshot, error) {
	op := "list our snapshots of " + id.Moref
	vm, err := c.vmRef(id)
	if err != nil {
		return nil, err
	}
	f, err := c.fetchVM(ctx, vm, []string{"snapshot.rootSnapshotList"})
	if err != nil {
		return nil, Explain(op, err)
	}
	return ourSnapshots(treeOf(f, vm)), nil
}

// RemoveOurs removes one of OurSnapshots and waits as Frozen.Release does. It
// looks at the mark once more. Whether its cycle is dead the caller must know,
// and that no disk of it is attached anywhere.
func (c *Client) RemoveOurs(ctx context.Context, id transfer.VMID, s OwnSnapshot) error {
	op := "remove VM snapshot " + s.Name
	vm, err := c.vmRef(id)
	if err != nil {
		return err
	}
	f, err := c.fetchVM(ctx, vm, []string{"snapshot.rootSnapshotList"})
	if err != nil {
		return Explain(op, err)
	}
	tree := treeOf(f, vm)
	for _, ours := range ourSnapshots(tree) {
		if ours.Moref == s.Moref && ours.Cycle == s.Cycle {
			r := release{c: c, vm: vm, snapshot: ref{Type: "VirtualMachineSnapshot", Value: s.Moref}, name: s.Name, alone: countTree(tree) == 1}
			return r.run(ctx)
		}
	}
	return nil
}

func treeOf(f *facts, vm ref) []types.VirtualMachineSnapshotTree {
	if s := f.vms[vm].Snapshot; s != nil {
		return s.RootSnapshotList
	}
	return nil
}

func ourSnapshots(tree []types.VirtualMachineSnapshotTree) []OwnSnapshot {
	var ours []OwnSnapshot
	for s := range walkTree(tree) {
		if m, ok := readMark(s.Description); ok {
			ours = append(ours, OwnSnapshot{Moref: s.Snapshot.Value, Name: s.Name, Appliance: m.Appliance, Cycle: m.Cycle, Created: s.CreateTime})
		}
	}
	return ours
}

// walkTree yields every snapshot, parents before children.
func walkTree(list []types.VirtualMachineSnapshotTree) iter.Seq[types.VirtualMachineSnapshotTree] {
	return func(yield func(types.VirtualMachineSnapshotTree) bool) {
		var walk func([]types.VirtualMachineSnapshotTree) bool
		walk = func(list []types.VirtualMachineSnapshotTree) bool {
			for _, s := range list {
				if !yield(s) || !walk(s.ChildSnapshotList) {
					return false
				}
			}
			return true
		}
		walk(list)
	}
}
