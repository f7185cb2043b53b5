package hotadd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// Appliance is the VM that this program runs in, as a reader of frozen disks.
// Its methods may be called by many goroutines at once; a process has one.
type Appliance struct {
	c     *vsphere.Client
	cfg   Config
	vm    types.ManagedObjectReference
	self  self
	guest guest

	// lock is held over list, submit and wait of every change: slots are
	// chosen from a list that the next change makes stale.
	lock chan struct{}

	mu   sync.Mutex
	live map[slot]bool // attachments of readers that are open in this process
}

// self is what a source is compared with.
type self struct{ vcenter, moref, path string }

// New finds the appliance in vCenter and refuses one that cannot serve. It
// attaches nothing.
func New(ctx context.Context, c *vsphere.Client, cfg Config) (*Appliance, error) {
	if cfg.SysfsDir == "" {
		cfg.SysfsDir = "/sys"
	}
	if cfg.DevDir == "" {
		cfg.DevDir = "/dev"
	}
	cfg.Timing = cfg.Timing.withDefaults()
	a := &Appliance{c: c, cfg: cfg, lock: make(chan struct{}, 1), live: map[slot]bool{},
		guest: guest{sys: cfg.SysfsDir, dev: cfg.DevDir, timing: cfg.Timing}}
	vm, err := a.find(ctx)
	if err != nil {
		return nil, err
	}
	a.vm = types.ManagedObjectReference{Type: "VirtualMachine", Value: vm.ID.Moref}
	a.self = self{vm.ID.VCenter, vm.ID.Moref, vm.Path}
	op := "use VM " + vm.Name + " as the appliance"
	h, err := a.fetch(ctx)
	if err != nil {
		return nil, vsphere.Explain(op, err)
	}
	if err := a.isHere(op, h); err != nil {
		return nil, err
	}
	if err := h.checkSelf(op); err != nil {
		return nil, err
	}
	return a, nil
}

// find is by configuration, or by the serial number that the firmware shows.
func (a *Appliance) find(ctx context.Context) (transfer.VM, error) {
	if a.cfg.Appliance != "" {
		return a.c.Find(ctx, a.cfg.Appliance)
	}
	const op = "find the appliance in vCenter"
	const hint = "Run on a VM of this vCenter, or name the VM in the configuration (appliance.vm)."
	uuid, err := a.serial()
	if err != nil {
		return transfer.VM{}, permanent(op, err, hint)
	}
	res, err := methods.FindAllByUuid(ctx, a.c.VIM(), &types.FindAllByUuid{
		This: *a.c.VIM().ServiceContent.SearchIndex, Uuid: uuid, VmSearch: true, InstanceUuid: new(false)})
	if err != nil {
		return transfer.VM{}, vsphere.Explain(op, err)
	}
	switch len(res.Returnval) {
	case 0:
		return transfer.VM{}, permanent(op, fmt.Errorf("no VM that the user may see has this machine's BIOS UUID %s", uuid), hint)
	case 1:
		return a.c.Inspect(ctx, transfer.VMID{VCenter: a.c.ID(), Moref: res.Returnval[0].Value})
	}
	var morefs []string
	for _, r := range res.Returnval {
		morefs = append(morefs, r.Value)
	}
	return transfer.VM{}, permanent(op, fmt.Errorf("this machine's BIOS UUID %s is that of %s: clones share it", uuid, strings.Join(morefs, ", ")),
		"Name the VM in the configuration (appliance.vm).")
}

// isHere refuses a configured VM that is not the one we run in: a disk attached
// there would never appear here. A machine without VMware's serial number
// cannot tell.
func (a *Appliance) isHere(op string, h *hardware) error {
	uuid, err := a.serial()
	if err != nil || strings.EqualFold(uuid, h.biosUUID) {
		return nil
	}
	return permanent(op, fmt.Errorf("this program runs in another VM: its BIOS UUID is %s, that VM's is %s", uuid, h.biosUUID),
		"Correct appliance.vm, or leave it empty.")
}

var serialForm = regexp.MustCompile(`(?i)^VMware-(?:[0-9a-f]{2}[ -]?){16}$`)

// serial is the BIOS UUID in vCenter's order. product_uuid would have its first
// groups byte-swapped on some hardware versions.
func (a *Appliance) serial() (string, error) {
	text, err := os.ReadFile(filepath.Join(a.cfg.SysfsDir, "class/dmi/id/product_serial"))
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return "", fmt.Errorf("the serial number can only be read by root: %w", err)
		}
		return "", fmt.Errorf("this machine has no DMI serial number: %w", err)
	}
	serial := strings.TrimSpace(string(text))
	if !serialForm.MatchString(serial) {
		return "", fmt.Errorf("this machine's serial number %q is not that of a VMware VM", serial)
	}
	hex := strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(serial[len("VMware-"):]))
	return fmt.Sprintf("%s-%s-%s-%s-%s", hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]), nil
}

// Moref is the appliance's own.
func (a *Appliance) Moref() string { return a.vm.Value }

// Obstacle implements vsphere.Reader.
func (a *Appliance) Obstacle(d transfer.Disk) (transfer.Obstacle, bool) { return Obstacle(d) }

func (a *Appliance) acquire(ctx context.Context) error {
	select {
	case a.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Appliance) release() { <-a.lock }

func (a *Appliance) setLive(s slot, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if is {
		a.live[s] = true
	} else {
		delete(a.live, s)
	}
}

func (a *Appliance) isLive(s slot) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live[s]
}
