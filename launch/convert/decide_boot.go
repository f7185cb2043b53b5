package convert

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	grubDefault = "/etc/default/grub"
	// serial is the console that EC2 shows: get-console-output and the serial
	// console are ttyS0. The last one named is /dev/console.
	serialArg = "console=ttyS0,115200n8"
	screenArg = "console=tty0"
	// spaceNeeded in /boot for each initramfs that is made anew: the old one is
	// there until the new one is whole. Largest seen of a generic kernel.
	spaceNeeded = 160 << 20
)

// initramfs puts nvme and ena into that of every kernel which lacks nvme.
func (d *decision) initramfs() {
	if len(d.Kernels) == 0 {
		d.plan.Refused = "no kernel with its modules was found in the guest"
		return
	}
	var able, unable []string
	for _, k := range d.Kernels {
		switch {
		case k.NVMe == ModuleAbsent:
			unable = append(unable, k.Version)
			continue
		case k.ENA == ModuleAbsent:
			d.doubt("kernel %s has no ENA driver: on most instance types it has no network; install one before", k.Version)
		}
		able = append(able, k.Version)
		if !k.hasNVMe() {
			why := "the initramfs of " + k.Version + " lacks nvme"
			if !k.Listed && k.Initramfs != "" {
				why = "nobody can tell what the initramfs of " + k.Version + " holds"
			}
			d.regenerate = orElse(d.regenerate, why)
		}
	}
	if len(able) == 0 {
		d.plan.Refused = "no kernel of the guest has an NVMe driver (" + strings.Join(unable, ", ") + "): install a newer one before"
		return
	}
	for _, v := range unable {
		d.doubt("kernel %s has no NVMe driver and will not boot on EC2", v)
	}
	if d.regenerate == "" {
		return
	}
	switch {
	case d.Tools["update-initramfs"]:
		d.initramfsTools()
	case d.Tools["dracut"]:
		d.dracut()
	case d.Tools["mkinitcpio"]:
		d.mkinitcpio()
	default:
		d.plan.Refused = d.regenerate + ", and the guest has neither update-initramfs nor dracut nor mkinitcpio to make it anew"
	}
	d.space()
}

// anew is the kernels whose initramfs is to be made anew.
func (d *decision) anew() (all []Kernel) {
	for _, k := range d.Kernels {
		if k.NVMe != ModuleAbsent && k.Initramfs != "" {
			all = append(all, k)
		}
	}
	return all
}

func (d *decision) space() {
	mount := "/"
	for _, m := range d.Mounts {
		if m.Path == "/boot" {
			mount = "/boot"
		}
	}
	if free, known := d.Free[mount]; known && free < spaceNeeded {
		d.doubt("%s has %d MiB left: an initramfs that is made anew may not fit", mount, free>>20)
	}
}

func (d *decision) initramfsTools() {
	const modules = "/etc/initramfs-tools/modules"
	text := d.Files[modules]
	var missing []string
	for _, m := range []string{"nvme", "ena"} {
		if !slices.ContainsFunc(strings.Split(text, "\n"), func(l string) bool { return strings.TrimSpace(l) == m }) {
			missing = append(missing, m)
		}
	}
	if len(missing) > 0 {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		d.rewrite(modules, text+strings.Join(missing, "\n")+"\n", modules+": add "+strings.Join(missing, ", "))
	}
	// "dep" takes what the machine needs on which it runs: that is the appliance.
	dep := false
	for _, p := range append(d.files("/etc/initramfs-tools/initramfs.conf", ""), d.files("/etc/initramfs-tools/conf.d/", "")...) {
		for line := range strings.Lines(d.Files[p]) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "MODULES="); ok {
				dep = v == "dep"
			}
		}
	}
	if dep {
		d.rewrite("/etc/initramfs-tools/conf.d/zz-ec2", "MODULES=most\n", "initramfs with most drivers, not only those of the machine that makes it")
	}
	for _, k := range d.anew() {
		d.add(Change{Do: DeedRun, Path: k.Initramfs, Args: []string{"update-initramfs", "-u", "-k", k.Version}, What: "make the initramfs of " + k.Version + " anew: " + d.regenerate})
	}
}

func (d *decision) dracut() {
	const conf = "/etc/dracut.conf.d/99-ec2.conf"
	d.rewrite(conf, "add_drivers+=\" nvme ena \"\n", conf+": nvme and ena in every initramfs")
	for _, k := range d.anew() {
		d.add(Change{Do: DeedRun, Path: k.Initramfs, Args: []string{"dracut", "--force", k.Initramfs, k.Version}, What: "make the initramfs of " + k.Version + " anew: " + d.regenerate})
	}
}

var mkinitcpioModules = regexp.MustCompile(`(?m)^MODULES=\(([^)]*)\)`)

func (d *decision) mkinitcpio() {
	const conf = "/etc/mkinitcpio.conf"
	text := d.Files[conf]
	m := mkinitcpioModules.FindStringSubmatchIndex(text)
	if m == nil {
		text += "\nMODULES=(nvme ena)\n"
	} else {
		have := strings.Fields(text[m[2]:m[3]])
		for _, want := range []string{"nvme", "ena"} {
			if !slices.Contains(have, want) {
				have = append(have, want)
			}
		}
		text = text[:m[2]] + strings.Join(have, " ") + text[m[3]:]
	}
	d.rewrite(conf, text, conf+": add nvme, ena")
	// autodetect would leave out what the appliance does not have.
	d.add(Change{Do: DeedRun, Path: "/boot", Args: []string{"mkinitcpio", "--allpresets", "--skiphook", "autodetect"}, What: "make every initramfs anew: " + d.regenerate})
}

// bootLoader gives the kernels the serial console and a root that is found by
// UUID.
func (d *decision) bootLoader() {
	if !slices.ContainsFunc(d.Linux, func(l string) bool { return hasArg(l, serialArg) || hasArg(l, "console=ttyS0") }) {
		d.cmdline = append(d.cmdline, screenArg, serialArg)
	}
	if _, ok := d.Files[grubDefault]; ok {
		d.grubFile()
	}
	entries := d.entries()
	tool, target := d.grubTool()
	switch {
	case d.grubStale() && tool != "":
		args := []string{tool}
		if tool != "update-grub" {
			args = append(args, "-o", target)
		}
		d.add(Change{Do: DeedRun, Path: target, Args: args, What: "make " + target + " anew"})
	case d.grubStale() && len(d.Grub) > 0:
		d.doubt("the guest has no program to make %s anew: add %s to its kernel lines yourself", d.Grub[0], strings.Join(d.cmdline, " "))
	case len(d.Grub) == 0 && entries == 0:
		d.doubt("no GRUB was found: the boot loader is left as it is, without a serial console")
	}
}

// grubStale reports whether grub.cfg is not what it should be.
func (d *decision) grubStale() bool {
	if _, changed := d.rewritten[grubDefault]; changed {
		return true
	}
	return len(d.cmdline) > 0 || slices.ContainsFunc(d.Linux, func(l string) bool { return rootOf(l) != "" && unstable(rootOf(l)) })
}

func rootOf(line string) string {
	for _, f := range strings.Fields(line) {
		if r, ok := strings.CutPrefix(f, "root="); ok {
			return r
		}
	}
	return ""
}

// grubTool is what makes grub.cfg, and which one.
func (d *decision) grubTool() (tool, target string) {
	for _, p := range d.Grub {
		if !strings.Contains(p, "/EFI/") || target == "" {
			target = p
		}
	}
	for _, tool := range []string{"update-grub", "grub2-mkconfig", "grub-mkconfig"} {
		if d.Tools[tool] && target != "" {
			return tool, target
		}
	}
	return "", target
}

var (
	grubLine    = regexp.MustCompile(`(?m)^[ \t]*GRUB_CMDLINE_LINUX=(["']?)(.*)$`)
	grubNoUUID  = regexp.MustCompile(`(?m)^[ \t]*(GRUB_DISABLE_LINUX_UUID=)`)
	grubOutput  = regexp.MustCompile(`(?m)^[ \t]*GRUB_TERMINAL(_OUTPUT)?=`)
	grubBadRoot = regexp.MustCompile(`root=(/dev/[^\s"']+)`)
)

// grubFile changes /etc/default/grub.
func (d *decision) grubFile() {
	text := d.text(grubDefault)
	text = grubNoUUID.ReplaceAllString(text, "#$1")
	text = d.stableRoots(text)
	var args []string
	for _, a := range d.cmdline {
		if m := grubLine.FindStringSubmatch(text); m == nil || !hasArg(strings.Trim(m[2], `"'`), a) {
			args = append(args, a)
		}
	}
	if len(args) > 0 {
		text = addGrubArgs(text, args)
	}
	if slices.Contains(d.cmdline, serialArg) && !grubOutput.MatchString(text) {
		text = strings.TrimRight(text, "\n") + "\nGRUB_TERMINAL=\"console serial\"\nGRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n"
	}
	what := grubDefault + ": root by UUID"
	if len(args) > 0 {
		what = grubDefault + ": " + strings.Join(args, " ") + ", and GRUB itself on the serial line"
	}
	d.rewrite(grubDefault, text, what)
}

// stableRoots names root= by UUID where it is named by place.
func (d *decision) stableRoots(text string) string {
	return grubBadRoot.ReplaceAllStringFunc(text, func(arg string) string {
		device := strings.TrimPrefix(arg, "root=")
		if uuid, ok := d.uuid(device); ok {
			return "root=UUID=" + uuid
		}
		return arg
	})
}

// addGrubArgs adds arguments to GRUB_CMDLINE_LINUX, within its quotes.
func addGrubArgs(text string, args []string) string {
	more := strings.Join(args, " ")
	m := grubLine.FindStringSubmatchIndex(text)
	if m == nil {
		return strings.TrimRight(text, "\n") + "\nGRUB_CMDLINE_LINUX=\"" + more + "\"\n"
	}
	quote, rest := text[m[2]:m[3]], text[m[4]:m[5]]
	value, after := rest, ""
	if quote != "" {
		if i := strings.LastIndex(rest, quote); i >= 0 {
			value, after = rest[:i], rest[i+1:]
		}
	} else {
		quote = `"`
	}
	value = strings.TrimSpace(strings.TrimSpace(value) + " " + more)
	return text[:m[2]] + quote + value + quote + after + text[m[5]:]
}

// entries adds the arguments to boot loader specification entries, which
// grub2-mkconfig leaves alone.
func (d *decision) entries() (n int) {
	all := d.files("/boot/loader/entries/", ".conf")
	for _, p := range all {
		out := mapLines(d.Files[p], func(line string) string {
			options, ok := strings.CutPrefix(line, "options ")
			if !ok {
				return line
			}
			options = d.stableRoots(options)
			for _, a := range d.cmdline {
				if !hasArg(options, a) {
					options += " " + a
				}
			}
			return "options " + options
		})
		d.rewrite(p, out, p+": root by UUID, "+strings.Join(d.cmdline, " "))
	}
	return len(all)
}

// firmware sees to it that UEFI finds a loader without the variables that named
// it on the old machine.
func (d *decision) firmware() {
	if d.Firmware != "efi" {
		return
	}
	var vendor string
	for _, p := range d.EFI {
		lower := strings.ToLower(p)
		if strings.HasSuffix(lower, "/efi/boot/bootx64.efi") {
			return
		}
		if name := path.Base(lower); name == "shimx64.efi" || name == "grubx64.efi" && vendor == "" || name == "systemd-bootx64.efi" && vendor == "" {
			vendor = p
		}
	}
	if vendor == "" {
		d.doubt("the VM starts by UEFI and no loader was found on an EFI system partition")
		return
	}
	boot := path.Join(path.Dir(path.Dir(vendor)), "BOOT")
	d.add(Change{Do: DeedCopy, Path: vendor, To: boot + "/BOOTX64.EFI", What: "the fallback loader, since EC2 does not know the old machine's UEFI variables"})
	if strings.EqualFold(path.Base(vendor), "shimx64.efi") {
		for _, p := range d.EFI { // shim starts the GRUB beside it
			if path.Dir(p) == path.Dir(vendor) && strings.EqualFold(path.Base(p), "grubx64.efi") {
				d.add(Change{Do: DeedCopy, Path: p, To: boot + "/grubx64.efi", What: "the GRUB that shim starts"})
			}
		}
	}
}

// tools keeps VMware's tools from starting; they stay installed.
func (d *decision) tools() {
	for _, unit := range []string{"open-vm-tools", "vmtoolsd", "vgauthd", "vmware-tools"} {
		if !d.Units[unit] {
			continue
		}
		if !d.Tools["systemctl"] {
			d.doubt("service %s of VMware's tools is left on: the guest has no systemctl to switch it off", unit)
			continue
		}
		d.add(Change{Do: DeedRun, Path: unit, Args: []string{"systemctl", "disable", unit + ".service"}, What: "do not start " + unit + ", which stays installed"})
	}
}

func (d *decision) cloudInit() {
	const mark = "/etc/cloud/cloud-init.disabled"
	_, off := d.Files[mark]
	switch {
	case d.CloudInit == "disable" && !off && d.Tools["cloud-init"]:
		d.add(Change{Do: DeedWrite, Path: mark, Mode: 0o644, What: "keep cloud-init from changing the guest"})
	case d.CloudInit == "enable" && off:
		d.moveAside(mark, "let cloud-init run")
	case d.CloudInit == "" && d.Tools["cloud-init"] && !off:
		d.doubt("cloud-init is installed and takes this for a new machine: it may make new SSH host keys and set the host name")
	}
}

// selinux has files labelled again where new ones were written from outside.
func (d *decision) selinux() {
	for line := range strings.Lines(d.Files["/etc/selinux/config"]) {
		mode, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUX=")
		if !ok || mode == "disabled" || len(d.plan.Changes) == 0 {
			continue
		}
		d.add(Change{Do: DeedWrite, Path: "/.autorelabel", Mode: 0o644, What: fmt.Sprintf("SELinux (%s): label all files anew on the first boot, which takes minutes and ends with a restart", mode)})
	}
}
