package hotadd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapferry/transfer"
)

// guest is the appliance's own Linux, as sysfs shows it.
type guest struct {
	sys, dev string
	timing   Timing
}

func (g guest) node(name string) string { return filepath.Join(g.dev, name) }

// disks are the SCSI disks there are.
func (g guest) disks() ([]seen, error) {
	entries, err := os.ReadDir(filepath.Join(g.sys, "block"))
	if err != nil {
		return nil, err
	}
	var all []seen
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "sd") {
			continue
		}
		if s, ok := g.look(e.Name()); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

var pciFunction = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// look reads one device; false if it is going or not all there yet.
func (g guest) look(name string) (seen, bool) {
	dir := filepath.Join(g.sys, "block", name)
	s := seen{name: name, target: -1, wwid: strings.ToLower(attribute(dir, "device/wwid"))}
	sectors, err := strconv.ParseInt(attribute(dir, "size"), 10, 64)
	if err != nil {
		return s, false
	}
	s.size = sectors * transfer.SectorSize
	// …/0000:03:00.0/host33/target33:0:1/33:0:1:0
	path, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return s, false
	}
	if address := strings.Split(filepath.Base(path), ":"); len(address) == 4 {
		if t, err := strconv.ParseInt(address[2], 10, 32); err == nil {
			s.target = int32(t)
		}
	}
	for _, part := range strings.Split(path, string(filepath.Separator)) {
		if pciFunction.MatchString(part) {
			s.pci = part // the last is the adapter, those before are bridges
		}
	}
	return s, true
}

func attribute(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// pciAddress is where the kernel has a PCI slot, "0000:03:00"; empty where it
// does not say.
func (g guest) pciAddress(slot string) string {
	if slot == "" {
		return ""
	}
	return attribute(filepath.Join(g.sys, "bus/pci/slots"), filepath.Join(slot, "address"))
}

// isUnseen refuses to attach a disk whose WWID the guest shows already: a
// device that outlived its disk would be taken for it.
func (g guest) isUnseen(op string, w want) error {
	all, err := g.disks()
	if err != nil {
		return permanent(op, fmt.Errorf("look at the appliance's block devices: %w", err), "The program needs sysfs; in a container, mount the host's.")
	}
	for _, s := range all {
		if s.wwid == w.wwid {
			return transfer.Fail(transfer.Retry, op, fmt.Errorf("the appliance's guest shows a device with its WWID already: %v", s),
				fmt.Sprintf("If nothing uses it: echo 1 > %s", filepath.Join(g.sys, "block", s.name, "device/delete")))
		}
	}
	return nil
}

// await waits until the disk appears, and rescans where it takes its time.
func (g guest) await(ctx context.Context, op string, w want) (string, error) {
	deadline := time.Now().Add(g.timing.Appear)
	rescan := time.Now().Add(g.timing.Rescan)
	for {
		all, err := g.disks()
		if err != nil {
			return "", permanent(op, fmt.Errorf("look at the appliance's block devices: %w", err), "")
		}
		name, ok, err := w.pick(all)
		switch {
		case err != nil:
			return "", transfer.Fail(transfer.Retry, op, err, "")
		case ok:
			return name, nil
		case time.Now().After(deadline):
			return "", transfer.Fail(transfer.Retry, op,
				fmt.Errorf("the disk did not appear in the guest within %v: wanted wwid %s, target %d, pci %s, %d bytes; there are\n%s", g.timing.Appear, w.wwid, w.unit, w.pci, w.size, list(all)),
				"Without any wwid: power the appliance off and on, disk.EnableUUID takes effect then. Otherwise look at the kernel's log.")
		case time.Now().After(rescan):
			g.rescan()
			rescan = time.Now().Add(g.timing.Rescan)
		}
		if err := sleep(ctx, g.timing.Poll); err != nil {
			return "", transfer.Fail(transfer.Canceled, op, err, "")
		}
	}
}

// rescan asks every PVSCSI host for its devices. PVSCSI announces them by
// itself; this is for announcements that got lost.
func (g guest) rescan() {
	hosts, _ := filepath.Glob(filepath.Join(g.sys, "class/scsi_host/host*"))
	for _, h := range hosts {
		if driver := attribute(h, "proc_name"); driver == "" || driver == "vmw_pvscsi" {
			_ = writeAttribute(filepath.Join(h, "scan"), "- - -") // the wait shows whether it helped
		}
	}
}

// drop makes the guest let go of a disk of ours, and waits until it has. A disk
// that it does not show is fine.
func (g guest) drop(ctx context.Context, w want) error {
	all, err := g.disks()
	if err != nil {
		return err
	}
	for _, s := range all {
		if w.is(s) {
			return g.remove(ctx, s.name)
		}
	}
	return nil
}

// returned waits for a disk that a rescan may bring back, at most Timing.Rescan.
func (g guest) returned(ctx context.Context, w want) {
	for deadline := time.Now().Add(g.timing.Rescan); time.Now().Before(deadline); {
		all, err := g.disks()
		if err != nil || slices.ContainsFunc(all, w.is) || sleep(ctx, g.timing.Poll) != nil {
			return
		}
	}
}

func (g guest) remove(ctx context.Context, name string) error {
	dir := filepath.Join(g.sys, "block", name)
	if err := writeAttribute(filepath.Join(dir, "device/delete"), "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("let go of %s: %w", name, err)
	}
	for deadline := time.Now().Add(g.timing.Vanish); time.Now().Before(deadline); {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err := sleep(ctx, g.timing.Poll); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is still there %v after it was deleted", name, g.timing.Vanish)
}

// writeAttribute neither creates nor truncates: sysfs has no use for either.
func writeAttribute(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
