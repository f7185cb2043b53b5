package launch

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"snapferry/transfer"
)

// Check says why a request cannot be carried out in this world. What follows
// from the guest and need not keep it from running comes out as notes.
func (r Request) Check(w World) (notes []string, err error) {
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if err := r.Settings.Check(r.Force); err != nil {
		wrong = append(wrong, err)
	}
	if r.Purpose != r.Settings.Purpose {
		fail("the settings are those of a %q", r.Settings.Purpose)
	}
	if r.VM.VCenter == "" || r.VM.Moref == "" {
		fail("the VM is not known")
	}
	r.checkPoint(fail)
	r.checkEncryption(w, fail)
	r.checkAddresses(w, fail)
	if r.Settings.TPM && bootMode(r) != bootUEFI {
		fail("a TPM needs boot mode uefi, and the source's firmware is %q", guest(r).Firmware)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, refuse(fmt.Sprintf("launch %s as a %s", r.VMName, r.Purpose), transfer.HintOf(err), "%w", err)
	}
	if guest(r).SecureBoot {
		notes = append(notes, "the source uses Secure Boot; the instance does not, since no keys are given to its image")
	}
	if guest(r).Firmware == "" {
		notes = append(notes, "the source's firmware is not known: BIOS is assumed")
	}
	if r.Purpose == ForTest && !r.Settings.ownSubnet() {
		notes = append(notes, "the test runs in the cutover's subnet and may reach what the source talks to")
	}
	return notes, nil
}

func (r Request) checkPoint(fail func(string, ...any)) {
	p := r.Point
	switch {
	case len(p.Disks) == 0:
		fail("there is no recovery point")
		return
	case !p.Complete:
		fail("point %s is not complete: %s", p.Cycle, p.Missing)
	case p.Suspect != "" && !r.Force:
		fail("point %s is in doubt: %s", p.Cycle, p.Suspect)
	case p.VM != r.VM:
		fail("point %s is of VM %s", p.Cycle, p.VM)
	}
	for n := range r.Settings.Disks {
		if n > len(p.Disks) {
			fail("disk%d is set and the point has %d disks", n, len(p.Disks))
		}
	}
	if n := len(p.Disks); n > len(devices()) {
		fail("the point has %d disks and EC2 knows names for %d", n, len(devices()))
	}
}

// checkEncryption: absent blocks of a snapshot that a launch encrypts read as
// garbage, not as zeros (AWS; coldsnap issues 395, 396, 469, 470).
func (r Request) checkEncryption(w World, fail func(string, ...any)) {
	for i, d := range r.Point.Disks {
		if !d.Label.ZerosAbsent || d.Encrypted {
			continue
		}
		switch {
		case r.Settings.volumeOf(i + 1).Encrypts():
			fail("%s leaves blocks of zeros out, and they would read as garbage from an encrypted volume: do not set encryption, or seed the VM anew with all blocks", d.ID)
		case w.EncryptsByDefault:
			fail("%s leaves blocks of zeros out, and the account encrypts every new volume, from which they would read as garbage: seed the VM anew with all blocks", d.ID)
		}
	}
}

func (r Request) checkAddresses(w World, fail func(string, ...any)) {
	nics := r.Settings.network(r.Force)
	for i, n := range nics {
		ip, ok := n.address(i, r.SourceIPs)
		if !ok {
			fail("nic%d: its source's IPv4 address is not known, so it cannot be kept", i)
			continue
		}
		cidr, err := netip.ParsePrefix(w.Subnet.CIDR)
		a, bad := netip.ParseAddr(ip)
		if ip != "" && subnetOf(nics, i) == w.Subnet.ID && err == nil && (bad != nil || !cidr.Contains(a)) {
			fail("nic%d: address %s is not of subnet %s (%s)", i, ip, w.Subnet.ID, w.Subnet.CIDR)
		}
	}
}

// devices are the names of volumes, the root's first: those that AWS recommends
// for EBS, then what else EC2 accepts.
func devices() []string {
	names := []string{"/dev/sda1"}
	add := func(prefix, letters string) {
		for _, l := range letters {
			names = append(names, prefix+string(l))
		}
	}
	add("/dev/sd", "fghijklmnop")
	add("/dev/sd", "bcdeqrstuvwxyz")
	add("/dev/xvdb", "abcdefghijklmnopqrstuvwxyz")
	add("/dev/xvdc", "abcdefghijklmnopqrstuvwxyz")
	add("/dev/xvdd", "abcdefghijklmnopqrstuvwxyz")
	return names
}

// deviceOf is the device name of disk number ordinal.
func deviceOf(ordinal int) string { return devices()[ordinal-1] }

// tags are those of a resource of the job: ours, the user's, the source's as
// far as they fit; a Name of the user's wins.
func (j Job) tags(more map[string]string) map[string]string {
	r := j.Request
	tags := JobTags(j)
	tags[tagName] = printable(r.VMName, maxTagValue)
	if r.VMName == "" {
		tags[tagName] = r.VM.Moref
	}
	if r.Purpose == ForTest {
		tags[tagName] = printable(tags[tagName], maxTagValue-len(" (test)")) + " (test)"
	}
	maps.Copy(tags, r.Settings.Tags)
	maps.Copy(tags, more)
	if !r.Settings.CopyTags {
		return tags
	}
	room := maxTags - len(r.Settings.Tags) - ourTags
	for _, k := range slices.Sorted(maps.Keys(r.SourceTags)) {
		v := printable(r.SourceTags[k], maxTagValue/4) // 255 characters; a rune has up to four bytes
		if len(r.SourceTags[k]) <= maxTagValue {
			v = printable(r.SourceTags[k], maxTagValue)
		}
		key := printable(k, maxTagKey)
		if _, taken := tags[key]; taken || room <= 0 || checkTag(key, v) != nil {
			continue
		}
		tags[key] = v
		room--
	}
	return tags
}

// leftOut names the tags of the source that the instance does not carry.
func (j Job) leftOut() (names []string) {
	if !j.Request.Settings.CopyTags {
		return nil
	}
	tags := j.tags(nil)
	for _, k := range slices.Sorted(maps.Keys(j.Request.SourceTags)) {
		if _, ok := tags[printable(k, maxTagKey)]; !ok {
			names = append(names, k)
		}
	}
	return names
}
