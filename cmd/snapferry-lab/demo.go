package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"snapferry/test/lab"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

const (
	demoVM = "app01"
	mib    = 1 << 20
)

// demonstration is one run of the demo: a lab, a VM, and the file systems on
// its disks.
type demonstration struct {
	options
	ctx    context.Context
	lab    *lab.Lab
	vm     *vcenter.VM
	guests []*guest
	table  cycleTable
}

// demo replicates a VM with two disks that hold real file systems: first
// whole, then what changed, then nothing; restores the last point and proves
// it.
func demo(ctx context.Context, o options) error {
	started := time.Now()
	l, err := lab.Start(lab.Options{Dir: o.dir, KeepFrozen: true})
	if err != nil {
		return err
	}
	defer l.Close()
	d := &demonstration{options: o, ctx: ctx, lab: l}
	for _, step := range []struct {
		says string
		do   func() error
	}{
		{"A vSphere with a VM of two disks; ext4 on both, with real files", d.install},
		{"The VM as Snapferry sees it", func() error { return d.show("vms") }},
		{"First cycle: everything", func() error { return d.sync() }},
		{"The guest changes files; second cycle: only what changed", d.changeAndSync},
		{"The guest does nothing; third cycle", func() error { return d.sync() }},
		{"What the cycles cost", d.summary},
		{"The recovery points, from the tags in AWS alone", func() error { return d.show("points", demoVM) }},
		{"Every block of the last point, read back and proved", func() error { return d.show("verify", demoVM, "--yes") }},
		{"The last point restored, checked and compared with the frozen source", d.restore},
		{"What is left in vSphere", d.inspect},
	} {
		fmt.Printf("\n== %s\n", step.says)
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.says, err)
		}
	}
	fmt.Printf("\nDone in %s: the restored disks are the frozen ones, byte for byte.\n", time.Since(started).Round(100*time.Millisecond))
	return nil
}

// install makes the VM. Its second disk is no whole GiB.
func (d *demonstration) install() error {
	sizes := []int64{1024 * mib, 300*mib + 512}
	spec := vcenter.VMSpec{Name: demoVM, Folder: "prod"}
	for _, size := range sizes {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: size})
	}
	var err error
	if d.vm, err = d.lab.AddVM(spec); err != nil {
		return err
	}
	for i, disk := range d.vm.Disks() {
		g, err := newGuest(d.ctx, filepath.Join(d.dir, fmt.Sprintf("guest-%d", i)), disk)
		if err != nil {
			return err
		}
		d.guests = append(d.guests, g)
		fmt.Printf("disk %d: %d bytes, %s\n", i+1, disk.Size(), g.describe())
	}
	return nil
}

func (d *demonstration) command(args ...string) *exec.Cmd {
	args = append(args, "--config", d.lab.Settings())
	cmd := exec.CommandContext(d.ctx, d.snapferry, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it cleans up
	cmd.Env = append(os.Environ(), d.lab.Env()...)
	cmd.Stderr = os.Stderr
	return cmd
}

// show runs a verb of snapferry for the eye.
func (d *demonstration) show(args ...string) error {
	fmt.Printf("$ snapferry %s\n", join(args))
	cmd := d.command(args...)
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

func join(args []string) string {
	var b bytes.Buffer
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

// sync runs one cycle and keeps its report for the summary.
func (d *demonstration) sync() error {
	fmt.Printf("$ snapferry sync %s\n", demoVM)
	cmd := d.command("sync", demoVM, "--json")
	out, err := cmd.Output()
	if err != nil {
		_, _ = os.Stdout.Write(out)
		return err
	}
	var result struct {
		Cycles []transfer.Report `json:"cycles"`
	}
	if err := json.Unmarshal(out, &result); err != nil || len(result.Cycles) != 1 {
		return fmt.Errorf("read the report of sync: %d cycles, %w", len(result.Cycles), err)
	}
	d.table = append(d.table, result.Cycles[0])
	d.table[len(d.table)-1:].write(os.Stdout)
	return nil
}

func (d *demonstration) changeAndSync() error {
	for i, g := range d.guests {
		said, err := g.change(d.ctx)
		if err != nil {
			return err
		}
		fmt.Printf("disk %d: %s\n", i+1, said)
	}
	return d.sync()
}

func (d *demonstration) summary() error {
	d.table.write(os.Stdout)
	return nil
}

// restore downloads every disk of the last point and holds it against the copy
// that the lab kept of the frozen disk.
func (d *demonstration) restore() error {
	last := d.table[len(d.table)-1]
	for i, disk := range d.vm.Disks() {
		file := filepath.Join(d.dir, fmt.Sprintf("restored-%d.raw", i+1))
		if err := d.show("restore", string(last.Point), "--disk", fmt.Sprint(disk.Key()), file, "--yes"); err != nil {
			return err
		}
		if err := d.guests[i].fsck(d.ctx, file); err != nil {
			return err
		}
		frozen, err := d.lab.VCenter.FrozenCopy(lab.Mark+string(last.Point), disk.Key())
		if err != nil {
			return err
		}
		n, err := sameFiles(file, frozen)
		if err != nil {
			return err
		}
		fmt.Printf("disk %d: fsck clean; %d bytes, each as in the frozen source\n", i+1, n)
	}
	return nil
}

// sameFiles compares two files and returns their length.
func sameFiles(a, b string) (int64, error) {
	fa, err := os.Open(a)
	if err != nil {
		return 0, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return 0, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, mib), make([]byte, mib)
	for off := int64(0); ; off += mib {
		n, errA := io.ReadFull(fa, bufA)
		m, errB := io.ReadFull(fb, bufB)
		if n != m || !bytes.Equal(bufA[:n], bufB[:m]) {
			return 0, fmt.Errorf("%s and %s differ in the MiB at %d", a, b, off)
		}
		if errA != nil || errB != nil {
			return off + int64(n), nil // both ended: the lengths are equal
		}
	}
}

// inspect shows that the source is as it was.
func (d *demonstration) inspect() error {
	s := d.lab.VCenter.State()
	vm, ok := s.VM(demoVM)
	if !ok {
		return fmt.Errorf("the VM is gone")
	}
	attached := 0
	for _, a := range s.Attached {
		if a.Source == d.vm.Moref() {
			attached++
		}
	}
	fmt.Printf("VM snapshots: %d, disks attached to the appliance: %d, VMDKs deleted: %d, consolidation needed: %v\n",
		len(vm.Snapshots), attached, len(s.Deleted), vm.ConsolidationNeeded)
	if len(vm.Snapshots)+attached+len(s.Deleted) > 0 || vm.ConsolidationNeeded {
		return fmt.Errorf("something was left behind")
	}
	return nil
}
