package convert

import (
	"fmt"
	"slices"
	"strings"
)

const fstabPath = "/etc/fstab"

// fstab names file systems by UUID where it names them by bus or place. One
// that is not on the boot disk cannot be looked up here: it must not keep the
// guest from booting, and a person has to name it.
func (d *decision) fstab() {
	text, ok := d.Files[fstabPath]
	if !ok {
		d.doubt("there is no %s", fstabPath)
		return
	}
	var named, loosened []string
	out := mapLines(text, func(line string) string {
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(fields[0], "#") || !unstable(fields[0]) {
			return line
		}
		device := fields[0]
		if uuid, ok := d.uuid(device); ok {
			named = append(named, device)
			return strings.Replace(line, device, "UUID="+uuid, 1)
		}
		if fields[1] == "/" || fields[1] == "/usr" {
			d.doubt("%s names %s for %s, which is not found on the boot disk: the guest may not boot", fstabPath, device, fields[1])
			return line
		}
		if len(fields) > 3 && slices.Contains(strings.Split(fields[3], ","), "nofail") {
			return line
		}
		loosened = append(loosened, device)
		d.doubt("%s names %s for %s, which is not on the boot disk and has another name on EC2: it is made optional (nofail); name it by UUID", fstabPath, device, fields[1])
		return withOption(fields, "nofail")
	})
	var whats []string
	if len(named) > 0 {
		whats = append(whats, "name "+strings.Join(named, ", ")+" by UUID")
	}
	if len(loosened) > 0 {
		whats = append(whats, "do not wait for "+strings.Join(loosened, ", "))
	}
	if len(whats) > 0 {
		d.rewrite(fstabPath, out, fstabPath+": "+strings.Join(whats, "; "))
	}
}

// withOption is a line of fstab with one option more.
func withOption(fields []string, option string) string {
	for len(fields) < 4 {
		fields = append(fields, "defaults")
	}
	fields = slices.Clone(fields)
	fields[3] += "," + option
	return strings.Join(fields, "\t")
}

// mapLines applies f to each line.
func mapLines(text string, f func(string) string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		b.WriteString(f(body))
		if end {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// crypttab names what is encrypted by UUID.
func (d *decision) crypttab() {
	const path = "/etc/crypttab"
	var named []string
	out := mapLines(d.Files[path], func(line string) string {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || !unstable(fields[1]) {
			return line
		}
		uuid, ok := d.uuid(fields[1])
		if !ok {
			d.doubt("%s names %s, which is not found on the boot disk", path, fields[1])
			return line
		}
		named = append(named, fields[1])
		return strings.Replace(line, fields[1], "UUID="+uuid, 1)
	})
	if len(named) > 0 && d.rewrite(path, out, path+": name "+strings.Join(named, ", ")+" by UUID") {
		d.regenerate = path + " is in the initramfs"
	}
	for _, fs := range d.Filesystems {
		if strings.EqualFold(fs.Type, "crypto_LUKS") {
			d.doubt("%s is encrypted (LUKS): somebody has to type its passphrase on EC2's serial console at each boot, unless the guest has another way", fs.Device)
		}
	}
}

// resume names the swap to wake up from by UUID: the initramfs waits for it.
func (d *decision) resume() {
	for _, path := range d.files("/etc/initramfs-tools/conf.d/", "") {
		changed := ""
		out := mapLines(d.Files[path], func(line string) string {
			device, ok := strings.CutPrefix(strings.TrimSpace(line), "RESUME=")
			if !ok || !unstable(device) {
				return line
			}
			changed = device
			if uuid, ok := d.uuid(device); ok {
				return "RESUME=UUID=" + uuid
			}
			return "RESUME=none"
		})
		if changed != "" && d.rewrite(path, out, fmt.Sprintf("%s: name %s by UUID, or none", path, changed)) {
			d.regenerate = path + " is in the initramfs"
		}
	}
}
