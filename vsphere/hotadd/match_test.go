package hotadd

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEveryKeyMustMatch(t *testing.T) {
	w := want{wwid: "naa.6000c29a", unit: 3, pci: "0000:0b:00", size: 1 << 20}
	good := seen{name: "sdb", wwid: "naa.6000c29a", target: 3, pci: "0000:0b:00.0", size: 1 << 20}
	if !w.is(good) {
		t.Fatal("the device itself is not recognized")
	}
	for what, change := range map[string]func(*seen){
		"wwid":       func(s *seen) { s.wwid = "naa.6000c29b" },
		"no wwid":    func(s *seen) { s.wwid = "" },
		"unit":       func(s *seen) { s.target = 2 },
		"no target":  func(s *seen) { s.target = -1 },
		"controller": func(s *seen) { s.pci = "0000:03:00.0" },
		"capacity":   func(s *seen) { s.size = 2 << 20 },
	} {
		s := good
		change(&s)
		if w.is(s) {
			t.Errorf("recognized with a wrong %s", what)
		}
	}
	unknown := good
	unknown.pci = ""
	if !w.is(unknown) {
		t.Error("not recognized where sysfs shows no controller")
	}
	if (want{unit: 3, size: 1 << 20}).is(seen{target: 3, size: 1 << 20}) {
		t.Error("two unknown WWIDs are taken for equal")
	}
}

func TestTwoWithOneWWIDAreAnError(t *testing.T) {
	w := want{wwid: "naa.1", unit: 3, size: 512}
	all := []seen{{name: "sdb", wwid: "naa.1", target: 3, size: 512}, {name: "sdc", wwid: "naa.1", target: 4, size: 512}}
	if name, ok, err := w.pick(all); err == nil || ok || !strings.Contains(err.Error(), "sdb") || !strings.Contains(err.Error(), "sdc") {
		t.Errorf("picked %s, %v, %v", name, ok, err)
	}
	if name, ok, err := w.pick(all[:1]); err != nil || !ok || name != "sdb" {
		t.Errorf("picked %s, %v, %v", name, ok, err)
	}
	if _, ok, err := w.pick(all[1:]); ok || err != nil {
		t.Errorf("picked a device in another slot: %v", err)
	}
}

// fakeSys builds a sysfs with one disk that hangs on a PCI adapter.
func fakeSys(t *testing.T, name, wwid, sectors string) guest {
	t.Helper()
	sys := t.TempDir()
	target := filepath.Join(sys, "devices/pci0000:00/0000:00:15.0/0000:03:00.0/host2/target2:0:5/2:0:5:0")
	files := map[string]string{
		filepath.Join(target, "wwid"): wwid + "\n", filepath.Join(target, "delete"): "",
		filepath.Join(sys, "block", name, "size"):        sectors + "\n",
		filepath.Join(sys, "class/scsi_host/host2/scan"): "", filepath.Join(sys, "class/scsi_host/host2/proc_name"): "vmw_pvscsi\n",
		filepath.Join(sys, "class/scsi_host/host0/scan"): "", filepath.Join(sys, "class/scsi_host/host0/proc_name"): "ahci\n",
		filepath.Join(sys, "bus/pci/slots/160/address"): "0000:03:00\n",
		filepath.Join(sys, "block/loop0/size"):          "8\n",
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(target, filepath.Join(sys, "block", name, "device")); err != nil {
		t.Fatal(err)
	}
	return guest{sys: sys, timing: Timing{Appear: 400 * time.Millisecond, Rescan: 5 * time.Millisecond, Vanish: 30 * time.Millisecond, Poll: time.Millisecond}}
}

func TestSysfsIsRead(t *testing.T) {
	g := fakeSys(t, "sdb", "naa.6000C29A", "2048")
	all, err := g.disks()
	if want := (seen{"sdb", "naa.6000c29a", 5, "0000:03:00.0", 1 << 20}); err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("%+v, %v", all, err)
	}
	if a := g.pciAddress("160"); a != "0000:03:00" {
		t.Errorf("slot 160 is at %q", a)
	}
	if a := g.pciAddress("999"); a != "" {
		t.Errorf("slot 999 is at %q", a)
	}
}

// TestWhatDoesNotMatchIsListed: a disk of another size never is ours.
func TestWhatDoesNotMatchIsListed(t *testing.T) {
	g := fakeSys(t, "sdb", "naa.6000c29a", "2048")
	w := want{wwid: "naa.6000c29a", unit: 5, pci: "0000:03:00", size: 2 << 20}
	_, err := g.await(context.Background(), "attach", w)
	if err == nil || !strings.Contains(err.Error(), "sdb") || !strings.Contains(err.Error(), "1048576 bytes") {
		t.Error(err)
	}
	if text := attribute(g.sys, "class/scsi_host/host2/scan"); !strings.HasPrefix(text, "- - -") {
		t.Errorf("the PVSCSI host was not rescanned: %q", text)
	}
	if text := attribute(g.sys, "class/scsi_host/host0/scan"); text != "" {
		t.Errorf("another host was rescanned: %q", text)
	}
	w.size = 1 << 20
	if name, err := g.await(context.Background(), "attach", w); err != nil || name != "sdb" {
		t.Errorf("%s, %v", name, err)
	}
	if err := g.isUnseen("attach", w); err == nil || !strings.Contains(err.Error(), "sdb") {
		t.Errorf("a device with the WWID of what is to be attached: %v", err)
	}
	if err := g.drop(context.Background(), w); err == nil || attribute(g.sys, "block/sdb/device/delete") != "1" {
		t.Errorf("a device that does not go: %v", err)
	}
}
