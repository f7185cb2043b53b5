package convert

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	networkdFile   = "/etc/systemd/network/00-ec2.network"
	netplanFile    = "/etc/netplan/00-ec2.yaml"
	managerFile    = "/etc/NetworkManager/system-connections/ec2.nmconnection"
	interfacesFile = "/etc/network/interfaces"
	redhatFile     = "/etc/sysconfig/network-scripts/ifcfg-eth0"
	suseFile       = "/etc/sysconfig/network/ifcfg-eth0"
	// oldNames make the kernel's own names, eth0 …, those that count, for
	// programs that can only go by name.
	oldNames = "net.ifnames=0"

	networkdText = "# DHCP on every Ethernet port, whatever it is called.\n[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\n"
	managerText  = "[connection]\nid=ec2\ntype=ethernet\nautoconnect=true\nmulti-connect=3\n\n[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
)

// network gives every NIC its address by DHCP, by rules that do not go by name
// or MAC address, for whichever programs manage the guest's network. What was
// set before is kept beside.
func (d *decision) network() {
	if d.KeepNetwork {
		d.doubt("the network settings are left as they are at your wish")
		return
	}
	managed := false
	for _, f := range []func() bool{d.netplan, d.manager, d.networkd, d.ifupdown, d.redhat, d.suse} {
		managed = f() || managed
	}
	if !managed {
		d.doubt("what manages the guest's network was not recognised: it is left as it is, and may come up without an address")
	}
}

// netplan is asked first: networkd and NetworkManager are its servants.
func (d *decision) netplan() bool {
	files := d.files("/etc/netplan/", ".yaml")
	if len(files) == 0 {
		return false
	}
	renderer := ""
	for _, p := range files {
		if strings.Contains(d.Files[p], "renderer: NetworkManager") {
			renderer = "  renderer: NetworkManager\n"
		}
	}
	text := "network:\n  version: 2\n" + renderer + "  ethernets:\n    ec2:\n      match:\n        name: \"e*\"\n      dhcp4: true\n      dhcp6: true\n      optional: true\n"
	if slices.Equal(files, []string{netplanFile}) && d.Files[netplanFile] == text {
		return true
	}
	for _, p := range files {
		if p != netplanFile {
			d.moveAside(p, "netplan's old settings, kept beside")
		}
	}
	d.add(Change{Do: DeedWrite, Path: netplanFile, Content: text, Mode: 0o600, What: "DHCP on every Ethernet port (netplan)"})
	return true
}

func (d *decision) hasNetplan() bool { return len(d.files("/etc/netplan/", ".yaml")) > 0 }

func (d *decision) networkd() bool {
	if !d.Units["systemd-networkd"] || d.hasNetplan() {
		return false
	}
	ready := false
	for _, p := range d.files("/etc/systemd/network/", ".network") {
		match := section(d.Files[p], "Match")
		switch {
		case nameless(match) && isDHCP(section(d.Files[p], "Network")["DHCP"]):
			ready = true
		case p == networkdFile || !pinned(match):
		default:
			d.moveAside(p, "networkd's settings for one NIC by name or place, kept beside")
		}
	}
	for _, p := range d.files("/etc/systemd/network/", ".netdev") {
		d.doubt("%s makes a virtual interface (%s), which may build on a NIC's old name", p, section(d.Files[p], "NetDev")["Kind"])
	}
	if !ready {
		d.add(Change{Do: DeedWrite, Path: networkdFile, Content: networkdText, Mode: 0o644, What: "DHCP on every Ethernet port (systemd-networkd)"})
	}
	return true
}

// section is one section of an INI file, the last value of each key.
func section(text, name string) map[string]string {
	values := map[string]string{}
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			in = line == "["+name+"]"
			continue
		}
		if k, v, ok := strings.Cut(line, "="); ok && in && !strings.HasPrefix(line, "#") {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return values
}

// nameless reports whether a [Match] takes Ethernet ports whatever their name.
func nameless(match map[string]string) bool {
	if pinned(match) {
		return false
	}
	return match["Type"] == "ether" || slices.ContainsFunc(strings.Fields(match["Name"]), wildcard)
}

// wildcard reports whether a pattern takes all names that Linux gives Ethernet
// ports on EC2: eth0 and ens5.
func wildcard(name string) bool { return name == "*" || name == "e*" }

func isDHCP(v string) bool { return v == "yes" || v == "true" || v == "ipv4" || v == "both" }

// pinned reports whether a [Match] is of one NIC.
func pinned(match map[string]string) bool {
	for _, k := range []string{"MACAddress", "PermanentMACAddress", "Path", "Driver", "OriginalName"} {
		if match[k] != "" && match[k] != "*" {
			return true
		}
	}
	names := strings.Fields(match["Name"])
	return len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return wildcard(n) || strings.HasPrefix(n, "!") })
}

func (d *decision) manager() bool {
	if !d.Units["NetworkManager"] || d.hasNetplan() {
		return false
	}
	if d.oldRedHat() {
		return false // ifcfg files, see redhat
	}
	for _, p := range d.files("/etc/NetworkManager/system-connections/", "") {
		c := section(d.Files[p], "connection")
		if p != managerFile && (c["type"] == "ethernet" || c["type"] == "802-3-ethernet") {
			d.moveAside(p, "NetworkManager's settings for one NIC, kept beside")
		}
	}
	for _, p := range d.files("/etc/sysconfig/network-scripts/ifcfg-", "") {
		if path.Base(p) != "ifcfg-lo" {
			d.moveAside(p, "settings for one NIC, kept beside")
		}
	}
	if _, there := d.Files[managerFile]; !there {
		d.add(Change{Do: DeedWrite, Path: managerFile, Content: managerText, Mode: 0o600, What: "DHCP on every Ethernet port (NetworkManager)"})
	}
	return true
}

// oldRedHat: up to 7, NetworkManager and the network service read ifcfg files.
func (d *decision) oldRedHat() bool {
	return d.Major <= 7 && len(d.files("/etc/sysconfig/network-scripts/ifcfg-", "")) > 0
}

// ifupdown goes by name: the kernel's old names are made to count, so that the
// first NIC is eth0 on every instance type.
func (d *decision) ifupdown() bool {
	text, ok := d.Files[interfacesFile]
	if !ok || !d.Tools["ifup"] {
		return false
	}
	others := slices.DeleteFunc(d.files("/etc/network/interfaces.d/", ""), func(p string) bool { return !strings.Contains(d.Files[p], "iface ") })
	if len(others) == 0 && !hasInterface(text) && (d.Units["NetworkManager"] || d.Units["systemd-networkd"] || d.hasNetplan()) {
		return true
	}
	var b strings.Builder
	b.WriteString("# DHCP on the first four NICs; the kernel calls them so with net.ifnames=0.\nauto lo\niface lo inet loopback\n")
	for i := range 4 {
		word := "allow-hotplug"
		if i == 0 {
			word = "auto"
		}
		fmt.Fprintf(&b, "\n%s eth%d\niface eth%d inet dhcp\n", word, i, i)
	}
	d.rewrite(interfacesFile, b.String(), interfacesFile+": DHCP on every NIC")
	for _, p := range others {
		d.moveAside(p, "ifupdown's settings for one NIC, kept beside")
	}
	d.useOldNames()
	if !d.Tools["dhclient"] && !d.Tools["dhcpcd"] && !d.Tools["udhcpc"] {
		d.doubt("ifupdown finds no DHCP client in the guest: it will have no address")
	}
	return true
}

// hasInterface reports whether ifupdown's file sets up more than the loopback.
func hasInterface(text string) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "iface" && f[1] != "lo" {
			return true
		}
	}
	return false
}

func (d *decision) useOldNames() {
	if !slices.ContainsFunc(d.Linux, func(l string) bool { return hasArg(l, oldNames) }) {
		d.cmdline = append(d.cmdline, oldNames)
	}
}

// redhat is the network service, and NetworkManager up to 7.
func (d *decision) redhat() bool {
	if !d.oldRedHat() && !d.Units["network"] {
		return false
	}
	if len(d.files("/etc/sysconfig/network-scripts/ifcfg-", "")) == 0 || d.Units["NetworkManager"] && !d.oldRedHat() {
		return false
	}
	d.byName("/etc/sysconfig/network-scripts/ifcfg-", redhatFile, "DEVICE=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=dhcp\n")
	return true
}

// suse is wicked.
func (d *decision) suse() bool {
	if !d.Units["wicked"] {
		return false
	}
	d.byName("/etc/sysconfig/network/ifcfg-", suseFile, "STARTMODE='auto'\nBOOTPROTO='dhcp'\n")
	return true
}

// byName leaves one file, for eth0.
func (d *decision) byName(prefix, file, text string) {
	for _, p := range d.files(prefix, "") {
		if p != file && path.Base(p) != "ifcfg-lo" {
			d.moveAside(p, "settings for one NIC, kept beside")
		}
	}
	d.rewrite(file, text, "DHCP on the first NIC: "+file)
	d.useOldNames()
	d.doubt("only the first NIC gets an address by itself: add ifcfg-eth1 … for others")
}

// pinned takes away rules that bind a NIC's name to the old machine's MAC
// address.
func (d *decision) pinned() {
	for _, p := range d.files("/etc/udev/rules.d/", ".rules") {
		text := strings.ToLower(d.Files[p])
		if strings.Contains(text, "attr{address}") || strings.Contains(text, "sysfs{address}") || strings.HasSuffix(p, "-persistent-net.rules") && strings.Contains(text, "name=") {
			d.moveAside(p, "udev's names for NICs by MAC address, kept beside")
		}
	}
	for _, p := range d.files("/etc/systemd/network/", ".link") {
		if m := section(d.Files[p], "Match"); m["MACAddress"] != "" || m["PermanentMACAddress"] != "" {
			d.moveAside(p, "a NIC's name by MAC address, kept beside")
		}
	}
}
