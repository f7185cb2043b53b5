package service_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/service"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

const vcenter = "5f1d8a12-0c55-4f21-9d52-2f6f0a3c9be1"

var (
	start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	alice = schedule.Actor{Name: "alice", Role: schedule.RoleOperator, From: "192.0.2.7"}
)

// rig is a service on a database of its own.
type rig struct {
	*service.Service
	t      *testing.T
	db     *store.DB
	now    time.Time
	kicked int
}

func newRig(t *testing.T, vms ...transfer.VM) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "service.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	r := &rig{t: t, db: db, now: start}
	r.Service = service.New(service.Config{Store: db, Now: func() time.Time { return r.now }, Kick: func() { r.kicked++ }})
	if len(vms) > 0 {
		r.inventory(vms...)
	}
	return r
}

// ok fails the test for an error.
func ok[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("unexpected error: %v", err))
	}
	return v
}

func (r *rig) inventory(vms ...transfer.VM) {
	r.t.Helper()
	by := map[string][]transfer.VM{}
	for _, vm := range vms {
		by[vm.ID.VCenter] = append(by[vm.ID.VCenter], vm)
	}
	for vc, seen := range by {
		if _, _, err := r.db.SaveInventory(r.t.Context(), vc, seen, r.now); err != nil {
			r.t.Fatal(err)
		}
	}
}

// machine is a VM with one disk of 8 GiB.
func machine(name string) transfer.VM {
	moref := "vm-" + name
	return transfer.VM{
		ID: transfer.VMID{VCenter: vcenter, Moref: moref}, InstanceUUID: "uuid-" + name, Name: name, Path: "/DC0/vm/prod/" + name,
		PoweredOn: true, Host: "esx1", CBT: true, Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", CPUs: 2, MemoryMiB: 2048},
		Disks: []transfer.Disk{{ID: transfer.DiskID{Key: 2000, UUID: "d-" + name}, Label: "Hard disk 1", Size: 8 << 30, Datastore: "ds1", File: "[ds1] " + name + ".vmdk", Backing: "flat"}},
	}
}

func machines(names ...string) []transfer.VM {
	var vms []transfer.VM
	for _, n := range names {
		vms = append(vms, machine(n))
	}
	return vms
}

func id(name string) transfer.VMID { return transfer.VMID{VCenter: vcenter, Moref: "vm-" + name} }

func ids(names ...string) []transfer.VMID {
	var all []transfer.VMID
	for _, n := range names {
		all = append(all, id(n))
	}
	return all
}

// vm reads a VM as it stands.
func (r *rig) vm(name string) schedule.VMDetail {
	r.t.Helper()
	d, err := r.VM(r.t.Context(), id(name))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// gold gives VMs a policy, as the planner does.
func (r *rig) gold(names ...string) {
	r.t.Helper()
	p := schedule.Policy{Name: "gold", Every: schedule.Duration(time.Hour), Priority: 7}
	if err := r.db.SavePolicy(r.t.Context(), p); err != nil {
		r.t.Fatal(err)
	}
	var planned []schedule.Planned
	for _, n := range names {
		planned = append(planned, schedule.Planned{VM: id(n), Policy: "gold", Next: r.now.Add(10 * time.Minute), Why: "every 1h"})
	}
	if err := r.db.Plan(r.t.Context(), planned); err != nil {
		r.t.Fatal(err)
	}
}

// run lets the queued run of a VM begin.
func (r *rig) begin(run int64) schedule.Run {
	r.t.Helper()
	got, err := r.db.Claim(r.t.Context(), run, "appliance-1", r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// events are the kinds of the events behind one, with their VMs.
func (r *rig) events(after int64) []string {
	r.t.Helper()
	all, err := r.Events(r.t.Context(), after, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	kinds := []string{}
	for _, e := range all {
		text := string(e.Kind)
		if e.VMName != "" {
			text += " " + e.VMName
		}
		kinds = append(kinds, text)
	}
	return kinds
}

func (r *rig) last() int64 {
	r.t.Helper()
	n, err := r.LastEvent(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// results are what was done, in one line each.
func results(done []schedule.Done) string {
	var lines []string
	for _, d := range done {
		text := d.Name + ": " + d.Result
		if d.Error != "" {
			text = d.Name + "! " + d.Error
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n")
}
