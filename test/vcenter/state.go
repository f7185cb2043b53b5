package vcenter

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// Event is something that happened to a VM and that an honest replicator
// never causes, or causes knowingly.
type Event struct {
	VM   string // moref
	Name string
	What string
}

// Attachment is one disk hot-added to a VM by its file.
type Attachment struct {
	VM         string // moref of the VM it hangs on
	Key        int32  // its device key there
	Controller int32
	Unit       int32
	File       string // datastore path it was attached by
	Mode       string
	Source     string // moref of the VM that owns the file; empty if nobody does
	SourceDisk int32  // device key on the source
	UUID       string
	Device     string // letter in the appliance's guest, "sdb"; empty if not visible there
}

// VMState is one VM from outside.
type VMState struct {
	Moref, Name         string
	PoweredOn           bool
	Crashed             bool
	ConsolidationNeeded bool
	ChangeTracking      bool
	Snapshots           []Snapshot
	ExtraConfig         map[string]string
	Files               []string // host paths of every file of its disks
	Missing             []string // of those, the ones that are gone
}

// State is everything an invariant may ask about.
type State struct {
	VMs       []VMState // ordered by moref
	Appliance string    // moref of the first one, empty without one
	Attached  []Attachment
	Deleted   []string // host paths of VMDK files that a client's call deleted, ever
	Crashed   []string // morefs of VMs that crashed, ever
	Stuns     []Event  // every stun, with its reason
	Harms     []Event  // what could have cost data: persistent attach, and so on
	Guests    []Event  // what GuestHooks.Shutdown complained of
	Surprises []Event  // devices pulled from a guest that had not let go of them
}

// VM returns the state of one VM by moref or name.
func (s State) VM(id string) (VMState, bool) {
	for _, vm := range s.VMs {
		if vm.Moref == id || vm.Name == id {
			return vm, true
		}
	}
	return VMState{}, false
}

// history is what State reports of the past. v.mu guards it.
type history struct {
	deleted, crashed                 []string
	stuns, harms, guests, surprises_ []Event
}

func (h *history) stun(vm *VM, why string) {
	h.stuns = append(h.stuns, Event{vm.ref.Value, vm.spec.Name, why})
}

func (h *history) harm(vm *VM, what string, args ...any) {
	h.harms = append(h.harms, Event{vm.ref.Value, vm.spec.Name, fmt.Sprintf(what, args...)})
}

func (h *history) surprise(vm *VM, what string) {
	h.surprises_ = append(h.surprises_, Event{vm.ref.Value, vm.spec.Name, what})
}

// State looks at everything at once.
func (v *VCenter) State() State {
	v.ops.Lock()
	defer v.ops.Unlock()
	s := State{}
	for _, vm := range v.VMs() {
		s.VMs = append(s.VMs, vm.state())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.appliance != nil {
		s.Appliance = v.appliance.ref.Value
	}
	for _, a := range v.attached {
		s.Attached = append(s.Attached, a.describe(v.guests[a.vm]))
	}
	s.Deleted = slices.Clone(v.log.deleted)
	s.Crashed = slices.Clone(v.log.crashed)
	s.Stuns = slices.Clone(v.log.stuns)
	s.Harms = slices.Clone(v.log.harms)
	s.Guests = slices.Clone(v.log.guests)
	s.Surprises = slices.Clone(v.log.surprises_)
	return s
}

func (vm *VM) state() VMState {
	st := VMState{Moref: vm.ref.Value, Name: vm.spec.Name, Snapshots: vm.Snapshots(), ExtraConfig: vm.ExtraConfig()}
	for _, d := range vm.Disks() {
		st.Files = append(st.Files, d.Files()...)
	}
	for _, f := range st.Files {
		if _, err := os.Stat(f); err != nil {
			st.Missing = append(st.Missing, f)
		}
	}
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	st.PoweredOn, st.Crashed = vm.powered, vm.crashed
	st.ConsolidationNeeded, st.ChangeTracking = vm.consolidation, vm.cbt
	return st
}

// ExtraConfig returns config.extraConfig as a map.
func (vm *VM) ExtraConfig() map[string]string {
	out := map[string]string{}
	m := vm.sim()
	if m == nil {
		return out
	}
	ctx := vm.v.context()
	ctx.WithLock(m, func() { out = optionMap(m.Config.ExtraConfig) })
	return out
}

func optionMap(opts []types.BaseOptionValue) map[string]string {
	out := map[string]string{}
	for _, o := range opts {
		v := o.GetOptionValue()
		out[v.Key] = fmt.Sprint(v.Value)
	}
	return maps.Clone(out)
}
