package vcenter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// guest is what the appliance's Linux shows of its SCSI disks: a sysfs tree
// and a directory of devices. Layout and links are those of a real kernel.
type guest struct {
	vm       *VM
	sys, dev string

	mu      sync.Mutex
	uuids   bool // wwid files exist: disk.EnableUUID
	buses   map[int32]bool
	devices map[int32]*guestDevice // by device key
}

type guestDevice struct {
	key, bus, unit int32
	size           int64
	uuid           string
	letter         string // "sdb"; empty: the guest let go of it
	source         string // host path of the content; a symlink unless it is a copy
	copied         bool
}

// hostOf is the SCSI host number of a controller: the kernel counts in the
// order of its probing, which is not that of the bus numbers.
var hostOf = []int{33, 32, 35, 34}

// pciBus is where ESXi puts the slots of pvscsiSlots.
var pciBus = []string{"03", "0b", "13", "1b"}

// poll is how often the files that a guest writes to are looked at. Readers
// wait for a device to go or come with time-outs of seconds.
const poll = 3 * time.Millisecond

func newGuest(vm *VM, dir string) *guest {
	return &guest{vm: vm, sys: filepath.Join(dir, "sys"), dev: filepath.Join(dir, "dev"),
		buses: map[int32]bool{}, devices: map[int32]*guestDevice{}}
}

// boot clears the view and makes the empty directories and the DMI files.
func (g *guest) boot(uuids bool, biosUUID string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.uuids = uuids
	clear(g.buses)
	clear(g.devices)
	for _, dir := range []string{g.sys, g.dev} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{g.dev, filepath.Join(g.sys, "block"), filepath.Join(g.sys, "class/block"), filepath.Join(g.sys, "class/scsi_host"),
		filepath.Join(g.sys, "bus/scsi/devices"), filepath.Join(g.sys, "bus/pci/slots")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	dmi := filepath.Join(g.sys, "class/dmi/id")
	return writeAll(dmi, map[string]string{
		"product_serial": serial(biosUUID), "product_uuid": swapped(biosUUID),
		"sys_vendor": "VMware, Inc.", "product_name": "VMware20,1",
	})
}

// halt empties the view: the guest is off.
func (g *guest) halt() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.devices)
	for _, dir := range []string{g.sys, g.dev} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// addBus makes a controller appear.
func (g *guest) addBus(bus int32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.buses[bus] {
		return nil
	}
	g.buses[bus] = true
	slot := filepath.Join(g.sys, "bus/pci/slots", fmt.Sprint(pvscsiSlots[bus]))
	if err := writeAll(slot, map[string]string{"address": "0000:" + pciBus[bus] + ":00"}); err != nil {
		return err
	}
	host := fmt.Sprintf("host%d", hostOf[bus])
	class := filepath.Join(g.hostDir(bus), "scsi_host", host)
	if err := writeAll(class, map[string]string{"scan": "", "proc_name": "vmw_pvscsi", "unique_id": fmt.Sprint(bus)}); err != nil {
		return err
	}
	return g.symlink(class, filepath.Join(g.sys, "class/scsi_host", host))
}

func (g *guest) hostDir(bus int32) string {
	return filepath.Join(g.sys, "devices/pci0000:00", fmt.Sprintf("0000:00:%x.0", 0x15+bus),
		fmt.Sprintf("0000:%s:00.0", pciBus[bus]), fmt.Sprintf("host%d", hostOf[bus]))
}

// hctl is a disk's SCSI address: host, channel, target, LUN.
func (d *guestDevice) hctl() string { return fmt.Sprintf("%d:0:%d:0", hostOf[d.bus], d.unit) }

func (g *guest) targetDir(d *guestDevice) string {
	return filepath.Join(g.hostDir(d.bus), fmt.Sprintf("target%d:0:%d", hostOf[d.bus], d.unit), d.hctl())
}

// plug makes a disk appear under the first free letter.
func (g *guest) plug(d *guestDevice) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.devices[d.key] = d
	return g.show(d)
}

// show puts the device's files in place, the names that people look for last.
func (g *guest) show(d *guestDevice) error {
	d.letter = g.freeLetter()
	target := g.targetDir(d)
	files := map[string]string{"vendor": "VMware  ", "model": "Virtual disk    ", "rev": "2.0 ", "type": "0", "state": "running", "delete": "", "rescan": ""}
	if g.uuids {
		files["wwid"] = wwid(d.uuid)
	}
	if err := writeAll(target, files); err != nil {
		return err
	}
	block := filepath.Join(target, "block", d.letter)
	err := writeAll(block, map[string]string{"size": fmt.Sprint(d.size / SectorSize), "ro": "0", "removable": "0", "dev": "8:16"})
	if err == nil {
		err = writeAll(filepath.Join(block, "queue"), map[string]string{"logical_block_size": "512", "physical_block_size": "512"})
	}
	if err == nil {
		err = os.Symlink(filepath.Join("../../../", d.hctl()), filepath.Join(block, "device"))
	}
	if err == nil {
		err = g.openDevice(d)
	}
	for _, name := range []string{"bus/scsi/devices/" + d.hctl(), "class/block/" + d.letter, "block/" + d.letter} {
		to := block
		if strings.HasPrefix(name, "bus/") {
			to = target
		}
		if err == nil {
			err = g.symlink(to, filepath.Join(g.sys, name))
		}
	}
	return err
}

// openDevice makes the node in dev: a link to the file itself, or the copy.
func (g *guest) openDevice(d *guestDevice) error {
	node := filepath.Join(g.dev, d.letter)
	if d.copied {
		if err := os.Link(d.source, node); err != nil {
			return fmt.Errorf("show %s: %w", d.letter, err)
		}
		return nil
	}
	return os.Symlink(d.source, node)
}

// hide takes the device's files away; the guest let go of it or it was pulled.
func (g *guest) hide(d *guestDevice) {
	for _, name := range []string{"block/" + d.letter, "class/block/" + d.letter, "bus/scsi/devices/" + d.hctl()} {
		_ = os.Remove(filepath.Join(g.sys, name))
	}
	_ = os.Remove(filepath.Join(g.dev, d.letter))
	_ = os.RemoveAll(filepath.Dir(g.targetDir(d)))
	d.letter = ""
}

// unplug forgets a device; true if the guest still had it.
func (g *guest) unplug(key int32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.devices[key]
	if d == nil {
		return false
	}
	had := d.letter != ""
	if had {
		g.hide(d)
	}
	if d.copied {
		_ = os.Remove(d.source)
	}
	delete(g.devices, key)
	return had
}

func (g *guest) letter(key int32) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := g.devices[key]; d != nil {
		return d.letter
	}
	return ""
}

func (g *guest) freeLetter() string {
	used := map[string]bool{}
	for _, d := range g.devices {
		used[d.letter] = true
	}
	for i := 0; ; i++ {
		if l := diskLetter(i); !used[l] {
			return l
		}
	}
}

// diskLetter counts as Linux does: sda … sdz, sdaa ….
func diskLetter(i int) string {
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return "sd" + s
}

// watch obeys what the guest writes into delete and scan until stop closes.
func (g *guest) watch(stop <-chan struct{}) {
	t := time.NewTicker(poll)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			g.obey()
		}
	}
}

func (g *guest) obey() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.devices {
		if d.letter != "" && written(filepath.Join(g.targetDir(d), "delete")) {
			g.hide(d)
		}
	}
	for bus := range g.buses {
		scan := filepath.Join(g.hostDir(bus), "scsi_host", fmt.Sprintf("host%d", hostOf[bus]), "scan")
		if !written(scan) {
			continue
		}
		_ = os.Truncate(scan, 0)
		for _, d := range g.devices {
			if d.bus == bus && d.letter == "" {
				_ = g.show(d) // a directory that vanished under us is a test that ended
			}
		}
	}
}

func written(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Size() > 0
}

func (g *guest) symlink(to, from string) error {
	rel, err := filepath.Rel(filepath.Dir(from), to)
	if err != nil {
		return err
	}
	return os.Symlink(rel, from)
}

// writeAll writes sysfs attributes, each with its line feed; empty ones are
// those that are written to.
func writeAll(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if text != "" {
			text += "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// wwid is how Linux prints the identity that ESXi derives from a disk's uuid.
func wwid(uuid string) string {
	return "naa." + strings.ToLower(strings.ReplaceAll(uuid, "-", ""))
}

// serial is the form of a BIOS uuid in DMI: "VMware-42 0e 3f 74 ea 84 f9 a2-0a b1 …".
func serial(uuid string) string {
	hex := strings.ReplaceAll(strings.ToLower(uuid), "-", "")
	var b strings.Builder
	b.WriteString("VMware-")
	for i := 0; i+2 <= len(hex); i += 2 {
		switch i {
		case 0:
		case 16:
			b.WriteByte('-')
		default:
			b.WriteByte(' ')
		}
		b.WriteString(hex[i : i+2])
	}
	return b.String()
}

// swapped is product_uuid on new hardware: the first three groups are byte
// swapped against vCenter's order.
func swapped(uuid string) string {
	parts := strings.Split(strings.ToLower(uuid), "-")
	for i := range min(3, len(parts)) {
		var b strings.Builder
		for j := len(parts[i]) - 2; j >= 0; j -= 2 {
			b.WriteString(parts[i][j : j+2])
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, "-")
}
