package hotadd

import (
	"errors"
	"fmt"
	"strings"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// Obstacle says why no appliance can attach a disk like this: HotAdd takes
// neither raw device mappings, the virtual ones included, nor IDE disks.
func Obstacle(d transfer.Disk) (o transfer.Obstacle, is bool) {
	switch {
	case d.Backing == "rdm-virtual":
		return transfer.Obstacle{Reason: "it is a raw device mapping, which HotAdd cannot attach",
			Remedy: "Convert it to a VMDK by a storage migration, or use another reader."}, true
	case d.Backing == "rdm-physical", d.Backing == "raw-disk":
		return transfer.Obstacle{Reason: "it is a raw disk, which HotAdd cannot attach", Remedy: "Use another reader."}, true
	case isIDEKey(d.ID.Key):
		return ideObstacle, true
	}
	return transfer.Obstacle{}, false
}

var ideObstacle = transfer.Obstacle{Reason: "it hangs on an IDE controller, from which HotAdd cannot attach it",
	Remedy: "Move it to a SCSI, SATA or NVMe controller (with the VM off)."}

// isIDEKey: vSphere gives the disks of the two IDE controllers these keys.
func isIDEKey(key int32) bool { return key >= 3000 && key < 3004 }

func refusal(format string, args ...any) error { return fmt.Errorf(format, args...) }

func permanent(op string, err error, hint string) error {
	return transfer.Fail(transfer.Permanent, op, err, hint)
}

// checkSelf says why the VM cannot serve as an appliance. It is pure.
func (h *hardware) checkSelf(op string) error {
	switch {
	case len(h.buses) == 0:
		return permanent(op, errors.New("the appliance has no PVSCSI controller"),
			"Add PVSCSI controllers (four give 60 slots) while the appliance is off; adding one to a running VM stuns it.")
	case !h.enableUUID:
		return permanent(op, errors.New("the appliance lacks disk.EnableUUID=TRUE, so that its disks cannot be told apart"),
			"Set the advanced parameter disk.EnableUUID to TRUE with the appliance off, and power it on.")
	case h.cbt:
		return permanent(op, errors.New("CBT is enabled on the appliance, which would spoil the change tracking of disks attached to it"),
			"Disable it (ctkEnabled=FALSE) with the appliance off, and keep backup tools off the appliance.")
	}
	return nil
}

// checkSource says why this disk must not be attached here. It is pure.
func (h *hardware) checkSource(op string, self self, d vsphere.FrozenDisk, allowStun bool) error {
	if o, is := Obstacle(d.Disk); is {
		return permanent(op, errors.New(o.Reason), o.Remedy)
	}
	switch {
	case d.Controller == vsphere.ControllerIDE:
		return permanent(op, errors.New(ideObstacle.Reason), ideObstacle.Remedy)
	case d.VM.ID.VCenter != self.vcenter:
		return permanent(op, errors.New("the VM belongs to another vCenter than the appliance"), "Use an appliance in that vCenter.")
	case d.VM.ID.Moref == self.moref:
		return permanent(op, errors.New("the VM is the appliance itself"), "Replicate it from another appliance.")
	case datacenter(d.VM.Path) != datacenter(self.path):
		return permanent(op, refusal("the VM is in datacenter %s, the appliance in %s", datacenter(d.VM.Path), datacenter(self.path)),
			"HotAdd does not cross datacenters: use an appliance in the VM's.")
	case d.Disk.ID.UUID == "":
		return permanent(op, errors.New("the disk has no UUID to recognize it by"), "Migrate it to another datastore, which gives it one.")
	}
	if err := h.checkStores(op, d, allowStun); err != nil {
		return err
	}
	for _, other := range h.disks {
		if other.uuid == strings.ToLower(d.Disk.ID.UUID) {
			return h.duplicate(op, d, other)
		}
	}
	return nil
}

// checkStores looks at every datastore of the disk's chain.
func (h *hardware) checkStores(op string, d vsphere.FrozenDisk, allowStun bool) error {
	homeKind := ""
	for _, s := range h.stores {
		if s.name == h.home {
			homeKind = s.kind
		}
	}
	for _, moref := range d.Datastores {
		s, ok := h.stores[moref]
		switch {
		case !ok:
			return permanent(op, refusal("the appliance's host %s does not see the datastore of the disk (%s, %s)", h.host, d.Disk.Datastore, moref),
				"Mount the datastore on that host, or move the appliance to a host that has it.")
		case strings.EqualFold(s.kind, "vsan") && !strings.EqualFold(homeKind, "vsan"):
			return permanent(op, refusal("the disk is on vSAN (%s) and the appliance is not", s.name), "Move the appliance's own disks to vSAN.")
		case strings.EqualFold(s.kind, "NFS") && d.VM.Host != h.host && d.VM.PoweredOn && !allowStun:
			return permanent(op, refusal("datastore %s is NFS 3 and the VM runs on %s, the appliance on %s: removing the snapshot would stun the VM for seconds to minutes (KB 2010953)", s.name, d.VM.Host, h.host),
				"Run both on one host (a DRS rule), use another reader, or allow the stun in the configuration.")
		}
	}
	return nil
}

// duplicate: two attached disks with one UUID have one WWN, and reads through
// it would be silently wrong.
func (h *hardware) duplicate(op string, d vsphere.FrozenDisk, other attachedDisk) error {
	hint := "If it is a copy of this disk, give one of the two a UUID of its own (vmkfstools -J setuuid)."
	if m, ok := h.marks[other.slot]; ok {
		hint = fmt.Sprintf("It was attached by cycle %s: wait for its end. If that crashed, a restart of the appliance's service detaches it.", m.Cycle)
	}
	return transfer.Fail(transfer.Retry, op,
		refusal("the appliance has a disk with the same UUID %s attached already: %s at %v (%s)", d.Disk.ID.UUID, other.label, other.slot, other.file), hint)
}

// full says that no slot is left.
func (h *hardware) full(op string) error {
	return transfer.Fail(transfer.Retry, op,
		refusal("all %d slots on the appliance's %d PVSCSI controllers are taken", len(h.buses)*(unitsPerBus-1), len(h.buses)),
		"Wait for other cycles to end, run fewer at once, or give the appliance more PVSCSI controllers (up to four, while it is off).")
}

// datacenter is the path of the datacenter that an inventory path leads through.
func datacenter(path string) string {
	dc, _, _ := strings.Cut(path, "/vm/")
	return dc
}
