package convert_test

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"snapferry/launch/convert"
)

// debian is a VMware guest as administrators left it: everything by name.
func debian(edit ...func(*convert.Facts)) convert.Facts {
	f := convert.Facts{
		OS: "linux", Distro: "debian", Product: "Debian GNU/Linux 12 (bookworm)", Major: 12, Arch: "x86_64", Root: "/dev/sda1", Firmware: "bios",
		Filesystems: []convert.Filesystem{{Device: "/dev/sda1", Type: "ext4", UUID: "u-root"}, {Device: "/dev/sda5", Type: "swap", UUID: "u-swap"}},
		Kernels:     []convert.Kernel{{Version: "6.1.0-1", Image: "/boot/vmlinuz-6.1.0-1", Initramfs: "/boot/initrd.img-6.1.0-1", NVMe: convert.ModuleLoads, ENA: convert.ModuleLoads, Listed: true}},
		Tools:       map[string]bool{"update-initramfs": true, "update-grub": true, "systemctl": true, "lsinitramfs": true},
		Units:       map[string]bool{"systemd-networkd": true, "open-vm-tools": true},
		Files: map[string]string{
			"/etc/fstab":                                "# comment\n/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sda5\tnone swap sw 0 0\nUUID=other /srv ext4 defaults 0 2\n",
			"/etc/default/grub":                         "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
			"/etc/initramfs-tools/modules":              "vmw_pvscsi\n",
			"/etc/systemd/network/10-ens192.network":    "[Match]\nName=ens192\n\n[Network]\nAddress=192.0.2.10/24\n",
			"/etc/udev/rules.d/70-persistent-net.rules": "SUBSYSTEM==\"net\", ATTR{address}==\"00:50:56:aa:bb:cc\", NAME=\"ens192\"\n",
		},
		Grub:  []string{"/boot/grub/grub.cfg"},
		Linux: []string{"linux /boot/vmlinuz-6.1.0-1 root=UUID=u-root ro quiet"},
		Free:  map[string]int64{"/": 10 << 30},
	}
	for _, e := range edit {
		e(&f)
	}
	return f
}

// redhat is one of the family, with BLS entries and NetworkManager.
func redhat(f *convert.Facts) {
	f.Distro, f.Product, f.Major = "rhel", "Red Hat Enterprise Linux 9.4", 9
	f.Filesystems = []convert.Filesystem{{Device: "/dev/sda1", Type: "vfat", UUID: "u-esp"}, {Device: "/dev/sda2", Type: "xfs", UUID: "u-boot"}, {Device: "/dev/rhel/root", Type: "xfs", UUID: "u-root"}}
	f.Root, f.Firmware = "/dev/rhel/root", "efi"
	f.Mounts = []convert.Mount{{Path: "/boot", Device: "/dev/sda2"}, {Path: "/boot/efi", Device: "/dev/sda1"}}
	f.Kernels = []convert.Kernel{
		{Version: "5.14.0-1", Initramfs: "/boot/initramfs-5.14.0-1.img", NVMe: convert.ModuleLoads, ENA: convert.ModuleLoads, Listed: true},
		{Version: "5.14.0-2", Initramfs: "/boot/initramfs-5.14.0-2.img", NVMe: convert.ModuleLoads, ENA: convert.ModuleLoads, Listed: true, Holds: []string{"nvme"}},
	}
	f.Tools = map[string]bool{"dracut": true, "lsinitrd": true, "grub2-mkconfig": true, "systemctl": true}
	f.Units = map[string]bool{"NetworkManager": true, "vmtoolsd": true}
	f.Files = map[string]string{
		"/etc/fstab":                           "/dev/mapper/rhel-root / xfs defaults 0 0\n/dev/sda2 /boot xfs defaults 0 0\n/dev/sdb1 /data xfs defaults 0 0\n",
		"/etc/default/grub":                    "GRUB_CMDLINE_LINUX='rd.lvm.lv=rhel/root rhgb quiet'\nGRUB_ENABLE_BLSCFG=true\nGRUB_TERMINAL_OUTPUT=\"console\"\n",
		"/boot/loader/entries/x-5.14.0-1.conf": "title RHEL\nlinux /vmlinuz-5.14.0-1\noptions root=/dev/mapper/rhel-root ro rhgb quiet\n",
		"/etc/selinux/config":                  "# c\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
		"/etc/NetworkManager/system-connections/ens192.nmconnection":     "[connection]\ntype=ethernet\ninterface-name=ens192\n[ipv4]\nmethod=manual\n",
		"/etc/NetworkManager/system-connections/office-vpn.nmconnection": "[connection]\ntype=vpn\n",
		"/etc/sysconfig/network-scripts/ifcfg-ens192":                    "DEVICE=ens192\nIPADDR=192.0.2.10\n",
	}
	f.Grub = []string{"/boot/grub2/grub.cfg"}
	f.Linux = []string{"options root=/dev/mapper/rhel-root ro rhgb quiet"}
	f.EFI = []string{"/boot/efi/EFI/redhat/shimx64.efi", "/boot/efi/EFI/redhat/grubx64.efi"}
}

func netplan(f *convert.Facts) {
	f.Distro, f.Units["open-vm-tools"] = "ubuntu", true
	f.Files["/etc/netplan/00-installer-config.yaml"] = "network:\n  ethernets:\n    ens192:\n      addresses: [192.0.2.10/24]\n  version: 2\n"
}

func ifupdown(f *convert.Facts) {
	f.Units = map[string]bool{"networking": true}
	f.Tools["ifup"], f.Tools["dhclient"] = true, true
	delete(f.Files, "/etc/systemd/network/10-ens192.network")
	f.Files["/etc/network/interfaces"] = "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\nauto ens192\niface ens192 inet static\n  address 192.0.2.10/24\n"
	f.Files["/etc/network/interfaces.d/ens224"] = "auto ens224\niface ens224 inet static\n"
}

func centos7(f *convert.Facts) {
	redhat(f)
	f.Distro, f.Major, f.Firmware = "centos", 7, "bios"
	delete(f.Files, "/boot/loader/entries/x-5.14.0-1.conf")
	f.Linux = []string{"linux16 /vmlinuz-3.10 root=/dev/mapper/rhel-root ro"}
}

func suse(f *convert.Facts) {
	f.Distro, f.Units = "sles", map[string]bool{"wicked": true}
	f.Tools = map[string]bool{"dracut": true, "grub2-mkconfig": true, "systemctl": true}
	f.Grub = []string{"/boot/grub2/grub.cfg"}
	delete(f.Files, "/etc/initramfs-tools/modules")
	f.Files["/etc/sysconfig/network/ifcfg-eth0"] = "BOOTPROTO='static'\nIPADDR='192.0.2.10/24'\n"
	f.Files["/etc/sysconfig/network/ifcfg-eth1"] = "BOOTPROTO='static'\n"
}

func arch(f *convert.Facts) {
	f.Distro = "archlinux"
	f.Tools = map[string]bool{"mkinitcpio": true, "grub-mkconfig": true, "systemctl": true}
	f.Files["/etc/mkinitcpio.conf"] = "# c\nMODULES=(vmw_pvscsi)\nHOOKS=(base)\n"
}

var families = map[string][]func(*convert.Facts){
	"debian": nil, "redhat": {redhat}, "netplan": {netplan}, "ifupdown": {ifupdown}, "centos7": {centos7}, "suse": {suse}, "arch": {arch},
}

// after is what the guest is once a plan has been carried out.
func after(f convert.Facts, p convert.Plan) convert.Facts {
	f.Files, f.Units = maps.Clone(f.Files), maps.Clone(f.Units)
	f.Kernels, f.EFI, f.Linux = slices.Clone(f.Kernels), slices.Clone(f.EFI), slices.Clone(f.Linux)
	watched := func(p string) bool { // by the script that looks
		return !strings.Contains(p, ".before-ec2") || strings.HasPrefix(p, "/etc/network/interfaces.d/")
	}
	for _, c := range p.Changes {
		switch c.Do {
		case convert.DeedWrite:
			f.Files[c.Path] = c.Content
		case convert.DeedMove, convert.DeedCopy:
			if text, ok := f.Files[c.Path]; ok && watched(c.To) {
				f.Files[c.To] = text
			}
			if c.Do == convert.DeedMove {
				delete(f.Files, c.Path)
			}
			if strings.HasSuffix(c.To, ".EFI") {
				f.EFI = append(f.EFI, c.To)
			}
		case convert.DeedRun:
			run(&f, c)
		}
	}
	for i, l := range f.Linux {
		if strings.HasPrefix(l, "options") {
			for p, text := range f.Files {
				if strings.HasPrefix(p, "/boot/loader/entries/") {
					f.Linux[i] = text[strings.Index(text, "options"):]
				}
			}
		}
	}
	return f
}

func run(f *convert.Facts, c convert.Change) {
	switch c.Args[0] {
	case "update-initramfs", "dracut", "mkinitcpio":
		for i := range f.Kernels {
			if k := &f.Kernels[i]; slices.Contains(c.Args, k.Version) || c.Args[0] == "mkinitcpio" {
				k.Holds = []string{"nvme", "ena"}
			}
		}
	case "update-grub", "grub2-mkconfig", "grub-mkconfig":
		for line := range strings.Lines(f.Files["/etc/default/grub"]) {
			if args, ok := strings.CutPrefix(line, "GRUB_CMDLINE_LINUX="); ok {
				for i, l := range f.Linux {
					if !strings.HasPrefix(l, "options") {
						f.Linux[i] = strings.Fields(l)[0] + " /vmlinuz root=UUID=u-root " + strings.Trim(strings.TrimSpace(args), `"'`)
					}
				}
			}
		}
	case "systemctl":
		delete(f.Units, strings.TrimSuffix(c.Args[2], ".service"))
	}
}

// TestAConvertedGuestIsReady: what Decide changes it does not change again, and
// nothing that was set before is lost.
func TestAConvertedGuestIsReady(t *testing.T) {
	for name, edit := range families {
		t.Run(name, func(t *testing.T) {
			f := debian(edit...)
			p := convert.Decide(f, convert.Wishes{})
			if p.Ready || p.Refused != "" || len(p.Changes) == 0 {
				t.Fatalf("plan %+v", p)
			}
			if again := convert.Decide(f, convert.Wishes{}); !slices.EqualFunc(p.Changes, again.Changes, func(a, b convert.Change) bool { return a.What == b.What && a.Content == b.Content }) {
				t.Error("another plan the second time")
			}
			done := after(f, p)
			if p := convert.Decide(done, convert.Wishes{}); !p.Ready {
				for _, c := range p.Changes {
					t.Errorf("once more: %s %s: %s\n%s", c.Do, c.Path, c.What, c.Content)
				}
			}
			kept := map[string]bool{}
			for _, c := range p.Changes {
				if c.Do == convert.DeedMove || c.Do == convert.DeedCopy {
					kept[c.Path] = true
				}
			}
			for path, text := range f.Files {
				if now, ok := done.Files[path]; (!ok || now != text) && !kept[path] {
					t.Errorf("%s is changed and not kept beside", path)
				}
			}
		})
	}
}

func written(p convert.Plan, path string) string {
	for _, c := range p.Changes {
		if c.Do == convert.DeedWrite && c.Path == path {
			return c.Content
		}
	}
	return ""
}

func did(p convert.Plan, deed convert.Deed, what string) bool {
	return slices.ContainsFunc(p.Changes, func(c convert.Change) bool {
		return c.Do == deed && (c.Path == what || c.To == what || strings.Join(c.Args, " ") == what)
	})
}

func doubts(p convert.Plan, what string) bool {
	return slices.ContainsFunc(p.Doubts, func(d string) bool { return strings.Contains(d, what) })
}

func TestDebian(t *testing.T) {
	p := convert.Decide(debian(), convert.Wishes{})
	if got, want := written(p, "/etc/fstab"), "# comment\nUUID=u-root / ext4 errors=remount-ro 0 1\nUUID=u-swap\tnone swap sw 0 0\nUUID=other /srv ext4 defaults 0 2\n"; got != want {
		t.Errorf("fstab %q", got)
	}
	if got := written(p, "/etc/initramfs-tools/modules"); got != "vmw_pvscsi\nnvme\nena\n" {
		t.Errorf("modules %q", got)
	}
	if got := written(p, "/etc/default/grub"); !strings.Contains(got, "GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200n8\"\n") || !strings.Contains(got, "GRUB_TERMINAL=\"console serial\"") || !strings.Contains(got, "GRUB_TIMEOUT=5\n") {
		t.Errorf("grub %q", got)
	}
	for _, c := range []struct {
		do   convert.Deed
		what string
	}{
		{convert.DeedRun, "update-initramfs -u -k 6.1.0-1"}, {convert.DeedRun, "update-grub"}, {convert.DeedRun, "systemctl disable open-vm-tools.service"},
		{convert.DeedMove, "/etc/systemd/network.before-ec2/10-ens192.network"}, {convert.DeedMove, "/etc/udev/rules.d.before-ec2/70-persistent-net.rules"},
		{convert.DeedWrite, "/etc/systemd/network/00-ec2.network"}, {convert.DeedCopy, "/etc/fstab.before-ec2"},
	} {
		if !did(p, c.do, c.what) {
			t.Errorf("no %s %s", c.do, c.what)
		}
	}
	// grub.cfg is made after the initramfs, which it lists.
	order := []string{}
	for _, c := range p.Changes {
		if c.Do == convert.DeedRun {
			order = append(order, c.Args[0])
		}
	}
	if !slices.Equal(order, []string{"update-initramfs", "update-grub", "systemctl"}) {
		t.Errorf("order %v", order)
	}
	if len(p.Doubts) > 0 {
		t.Errorf("doubts %v", p.Doubts)
	}
}

func TestRedHat(t *testing.T) {
	p := convert.Decide(debian(redhat), convert.Wishes{})
	if got := written(p, "/etc/fstab"); !strings.Contains(got, "UUID=u-boot /boot xfs") || !strings.Contains(got, "/dev/mapper/rhel-root / xfs") || !strings.Contains(got, "/dev/sdb1\t/data\txfs\tdefaults,nofail") {
		t.Errorf("fstab %q", got)
	}
	if got := written(p, "/etc/default/grub"); !strings.Contains(got, "GRUB_CMDLINE_LINUX='rd.lvm.lv=rhel/root rhgb quiet console=tty0 console=ttyS0,115200n8'") {
		t.Errorf("grub %q", got)
	}
	if got := written(p, "/boot/loader/entries/x-5.14.0-1.conf"); !strings.Contains(got, "rhgb quiet console=tty0 console=ttyS0,115200n8\n") {
		t.Errorf("entry %q", got)
	}
	for _, what := range []string{"dracut --force /boot/initramfs-5.14.0-1.img 5.14.0-1", "dracut --force /boot/initramfs-5.14.0-2.img 5.14.0-2", "grub2-mkconfig -o /boot/grub2/grub.cfg"} {
		if !did(p, convert.DeedRun, what) {
			t.Errorf("no %s", what)
		}
	}
	if !did(p, convert.DeedCopy, "/boot/efi/EFI/BOOT/BOOTX64.EFI") || !did(p, convert.DeedCopy, "/boot/efi/EFI/BOOT/grubx64.efi") {
		t.Error("no fallback loader")
	}
	if c := p.Changes[len(p.Changes)-1]; c.Path != "/.autorelabel" {
		t.Errorf("the last change is %+v", c)
	}
	if did(p, convert.DeedMove, "/etc/NetworkManager/system-connections/office-vpn.nmconnection") || !did(p, convert.DeedMove, "/etc/NetworkManager/system-connections/ens192.nmconnection") {
		t.Error("the wrong connections were moved")
	}
	if !doubts(p, "/dev/sdb1") || !doubts(p, "not tried") {
		t.Errorf("doubts %v", p.Doubts)
	}
}

func TestOthers(t *testing.T) {
	if p := convert.Decide(debian(ifupdown), convert.Wishes{}); !strings.Contains(written(p, "/etc/network/interfaces"), "auto eth0\niface eth0 inet dhcp") ||
		!strings.Contains(written(p, "/etc/default/grub"), "net.ifnames=0") || !did(p, convert.DeedMove, "/etc/network/interfaces.d.before-ec2/ens224") {
		t.Errorf("ifupdown: %+v", p.Changes)
	}
	if p := convert.Decide(debian(netplan), convert.Wishes{}); !strings.Contains(written(p, "/etc/netplan/00-ec2.yaml"), "dhcp4: true") || !did(p, convert.DeedMove, "/etc/netplan.before-ec2/00-installer-config.yaml") {
		t.Errorf("netplan: %+v", p.Changes)
	}
	if p := convert.Decide(debian(arch), convert.Wishes{}); !strings.Contains(written(p, "/etc/mkinitcpio.conf"), "MODULES=(vmw_pvscsi nvme ena)\n") {
		t.Errorf("arch: %+v", p.Changes)
	}
	if p := convert.Decide(debian(suse), convert.Wishes{}); !strings.Contains(written(p, "/etc/sysconfig/network/ifcfg-eth0"), "dhcp") || !did(p, convert.DeedMove, "/etc/sysconfig/network.before-ec2/ifcfg-eth1") {
		t.Errorf("suse: %+v", p.Changes)
	}
}

// TestDecideInDetail changes one thing each in the Debian guest.
func TestDecideInDetail(t *testing.T) {
	file := func(path, text string) func(*convert.Facts) {
		return func(f *convert.Facts) { f.Files[path] = text }
	}
	for name, c := range map[string]struct {
		edit  func(*convert.Facts)
		check func(convert.Plan) bool
	}{
		"no kernel": {func(f *convert.Facts) { f.Kernels = nil }, func(p convert.Plan) bool { return p.Refused != "" && len(p.Changes) == 0 && !p.Ready }},
		"no nvme":   {func(f *convert.Facts) { f.Kernels[0].NVMe = convert.ModuleAbsent }, func(p convert.Plan) bool { return strings.Contains(p.Refused, "NVMe") }},
		"no ena": {func(f *convert.Facts) { f.Kernels[0].ENA = convert.ModuleAbsent }, func(p convert.Plan) bool {
			return doubts(p, "ENA") && p.Refused == ""
		}},
		"one kernel without": {func(f *convert.Facts) {
			f.Kernels = append(f.Kernels, convert.Kernel{Version: "2.6.32", Initramfs: "/boot/x", NVMe: convert.ModuleAbsent})
		}, func(p convert.Plan) bool {
			return doubts(p, "2.6.32") && !did(p, convert.DeedRun, "update-initramfs -u -k 2.6.32")
		}},
		"builtin": {func(f *convert.Facts) { f.Kernels[0].NVMe = convert.ModuleBuiltin }, func(p convert.Plan) bool {
			return !did(p, convert.DeedRun, "update-initramfs -u -k 6.1.0-1")
		}},
		"nobody can list it": {func(f *convert.Facts) { f.Kernels[0].Listed = false }, func(p convert.Plan) bool {
			return did(p, convert.DeedRun, "update-initramfs -u -k 6.1.0-1")
		}},
		"no tool": {func(f *convert.Facts) { delete(f.Tools, "update-initramfs") }, func(p convert.Plan) bool { return strings.Contains(p.Refused, "dracut") }},
		"MODULES=dep": {file("/etc/initramfs-tools/initramfs.conf", "MODULES=dep\n"), func(p convert.Plan) bool {
			return written(p, "/etc/initramfs-tools/conf.d/zz-ec2") == "MODULES=most\n"
		}},
		"resume": {func(f *convert.Facts) {
			f.Files["/etc/initramfs-tools/conf.d/resume"] = "RESUME=/dev/sda5\n"
			f.Kernels[0].Holds = []string{"nvme"}
		}, func(p convert.Plan) bool {
			return written(p, "/etc/initramfs-tools/conf.d/resume") == "RESUME=UUID=u-swap\n" && did(p, convert.DeedRun, "update-initramfs -u -k 6.1.0-1")
		}},
		"resume elsewhere": {file("/etc/initramfs-tools/conf.d/resume", "RESUME=/dev/sdb1\n"), func(p convert.Plan) bool {
			return written(p, "/etc/initramfs-tools/conf.d/resume") == "RESUME=none\n"
		}},
		"crypttab": {file("/etc/crypttab", "swap /dev/sda5 /dev/urandom swap\n"), func(p convert.Plan) bool {
			return written(p, "/etc/crypttab") == "swap UUID=u-swap /dev/urandom swap\n"
		}},
		"LUKS": {func(f *convert.Facts) {
			f.Filesystems = append(f.Filesystems, convert.Filesystem{Device: "/dev/sda6", Type: "crypto_LUKS"})
		}, func(p convert.Plan) bool { return doubts(p, "LUKS") }},
		"root by place": {func(f *convert.Facts) {
			f.Linux = []string{"linux /vmlinuz root=/dev/sda1 console=ttyS0"}
			f.Files["/etc/default/grub"] = "GRUB_DISABLE_LINUX_UUID=true\nGRUB_CMDLINE_LINUX=\"root=/dev/sda1\"\n"
		}, func(p convert.Plan) bool {
			g := written(p, "/etc/default/grub")
			return strings.Contains(g, "#GRUB_DISABLE") && strings.Contains(g, "root=UUID=u-root") && did(p, convert.DeedRun, "update-grub")
		}},
		"root by a second disk's name": {file("/etc/fstab", "/dev/sdb1 / ext4 defaults 0 1\n"), func(p convert.Plan) bool {
			return doubts(p, "may not boot") && written(p, "/etc/fstab") == ""
		}},
		"by path": {file("/etc/fstab", "UUID=u-root / ext4 d 0 1\n/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /data ext4 nofail 0 2\n"), func(p convert.Plan) bool {
			return doubts(p, "by-path") == false && written(p, "/etc/fstab") == ""
		}},
		"no grub program": {func(f *convert.Facts) { delete(f.Tools, "update-grub") }, func(p convert.Plan) bool { return doubts(p, "grub.cfg") }},
		"no grub":         {func(f *convert.Facts) { f.Grub, f.Linux = nil, nil }, func(p convert.Plan) bool { return doubts(p, "boot loader") }},
		"fallback there": {func(f *convert.Facts) {
			f.Firmware, f.EFI = "efi", []string{"/boot/efi/EFI/debian/grubx64.efi", "/boot/efi/EFI/boot/bootx64.efi"}
		}, func(p convert.Plan) bool { return !did(p, convert.DeedCopy, "/boot/efi/EFI/BOOT/BOOTX64.EFI") }},
		"no loader": {func(f *convert.Facts) { f.Firmware = "efi" }, func(p convert.Plan) bool { return doubts(p, "UEFI") }},
		"full /boot": {func(f *convert.Facts) {
			f.Mounts, f.Free["/boot"] = []convert.Mount{{Path: "/boot"}}, 20<<20
		}, func(p convert.Plan) bool { return doubts(p, "20 MiB") }},
		"DHCP by name pattern": {file("/etc/systemd/network/10-ens192.network", "[Match]\nName=e*\n[Network]\nDHCP=yes\n"), func(p convert.Plan) bool {
			return written(p, "/etc/systemd/network/00-ec2.network") == "" && !did(p, convert.DeedMove, "/etc/systemd/network/10-ens192.network")
		}},
		"a link by MAC": {file("/etc/systemd/network/10-lan.link", "[Match]\nMACAddress=00:50:56:aa:bb:cc\n[Link]\nName=lan\n"), func(p convert.Plan) bool {
			return did(p, convert.DeedMove, "/etc/systemd/network/10-lan.link")
		}},
		"a bond":     {file("/etc/systemd/network/bond0.netdev", "[NetDev]\nName=bond0\nKind=bond\n"), func(p convert.Plan) bool { return doubts(p, "bond") }},
		"no network": {func(f *convert.Facts) { f.Units = map[string]bool{} }, func(p convert.Plan) bool { return doubts(p, "network") }},
		"arm":        {func(f *convert.Facts) { f.Arch = "aarch64" }, func(p convert.Plan) bool { return strings.Contains(p.Refused, "aarch64") }},
		"freebsd":    {func(f *convert.Facts) { f.OS = "freebsd" }, func(p convert.Plan) bool { return strings.Contains(p.Refused, "freebsd") }},
		"cloud-init": {func(f *convert.Facts) { f.Tools["cloud-init"] = true }, func(p convert.Plan) bool { return doubts(p, "cloud-init") }},
	} {
		if p := convert.Decide(debian(c.edit), convert.Wishes{}); !c.check(p) {
			t.Errorf("%s: refused %q, doubts %q, changes:", name, p.Refused, p.Doubts)
			for _, c := range p.Changes {
				t.Logf("  %s %s %v %q", c.Do, path.Clean(c.Path), c.Args, c.Content)
			}
		}
	}
}

func TestWishes(t *testing.T) {
	p := convert.Decide(debian(), convert.Wishes{KeepNetwork: true})
	if did(p, convert.DeedWrite, "/etc/systemd/network/00-ec2.network") || !doubts(p, "wish") {
		t.Error("the network was changed against the user's wish")
	}
	with := debian(func(f *convert.Facts) { f.Tools["cloud-init"] = true })
	if p := convert.Decide(with, convert.Wishes{CloudInit: "disable"}); !did(p, convert.DeedWrite, "/etc/cloud/cloud-init.disabled") || doubts(p, "cloud-init") {
		t.Errorf("cloud-init is not disabled: %v", p.Doubts)
	}
	with.Files["/etc/cloud/cloud-init.disabled"] = ""
	if p := convert.Decide(with, convert.Wishes{CloudInit: "enable"}); !did(p, convert.DeedMove, "/etc/cloud/cloud-init.disabled") {
		t.Error("cloud-init is not enabled")
	}
}

// TestRecordedFacts: what the script printed in a real guest is read.
func TestRecordedFacts(t *testing.T) {
	text := recorded(t)
	f, err := convert.ParseFacts(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Kernels) != 1 || f.Kernels[0].NVMe != convert.ModuleLoads || f.Kernels[0].ENA != convert.ModuleLoads || !f.Kernels[0].Listed || slices.Contains(f.Kernels[0].Holds, "nvme") ||
		!f.Units["systemd-networkd"] || !f.Tools["update-initramfs"] || !f.Tools["update-grub"] || len(f.Grub) != 1 || len(f.Linux) == 0 || f.Free["/"] == 0 {
		t.Errorf("facts %+v", f)
	}
	if !strings.Contains(f.Files["/etc/fstab"], "/dev/sda1 / ext4") || !strings.Contains(f.Files["/etc/systemd/network/10-ens192.network"], "Name=ens192\n") {
		t.Errorf("files %q", f.Files)
	}
	f.OS, f.Distro, f.Filesystems = "linux", "debian", []convert.Filesystem{{Device: "/dev/sda1", Type: "ext4", UUID: "u-root"}}
	p := convert.Decide(f, convert.Wishes{})
	if p.Refused != "" || len(p.Doubts) > 0 || !did(p, convert.DeedRun, "update-initramfs -u -k "+f.Kernels[0].Version) {
		t.Errorf("plan %+v", p)
	}
	if _, err := convert.ParseFacts(text[:len(text)/2]); err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}
