package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// BootLimit is how long a guest may take to come up in software emulation:
// 20 to 60 s on an idle machine.
const BootLimit = 180 * time.Second

// Machine is a virtual machine under QEMU.
type Machine struct {
	// Image is the disk: a raw file, or "nbd+unix:///EXPORT?socket=FILE".
	Image    string
	Firmware string // "bios" or "efi"
	Bus      string // "pvscsi", as on VMware, or "nvme", as on EC2
	NIC      string // QEMU's model; "" is vmxnet3 with pvscsi, e1000 otherwise
	// Loader, with efi and pvscsi, is the raw file from which the firmware reads
	// loader and kernel; "" is Image. It is not written to.
	Loader string
	// Dir is for the serial lines' logs and UEFI's variables.
	Dir string
	// Keep has the guest's writes go into Image; otherwise they are thrown away.
	Keep bool
	// Limit is BootLimit if 0.
	Limit time.Duration
}

// limit is how long the guest may take.
func (m Machine) limit() time.Duration {
	if m.Limit > 0 {
		return m.Limit
	}
	return Patience()
}

// Patience is BootLimit, or the SNAPFERRY_BOOT_SECONDS that stand for it on a
// machine that has other work.
func Patience() time.Duration {
	if n, err := strconv.Atoi(os.Getenv("SNAPFERRY_BOOT_SECONDS")); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	return BootLimit
}

// ErrNoBoot is the cause where a guest did not come up.
var ErrNoBoot = errors.New("the guest did not come up")

var (
	ready  = regexp.MustCompile(`PROBE-READY .*`)
	lost   = regexp.MustCompile(`Kernel panic|not syncing|ALERT!|emergency mode|dracut-initqueue timeout|starting timeout scripts|Shell>|No bootable device|Boot failed`)
	detail = regexp.MustCompile(`(\w+)=(\S*)`)
)

// Probe is what a guest said when it was up.
type Probe struct {
	Line   string
	Values map[string]string // root, fs, kernel, ip ("ens3:10.0.2.15/24,"), failed (units); cmdline is the rest of Line
	Took   time.Duration
}

// Boot starts a machine, waits until its guest says on the serial line that it
// is up, and ends the machine. ErrNoBoot is in the error of a guest that did not
// come up, with the end of what it said.
func Boot(ctx context.Context, m Machine) (Probe, error) {
	r, err := Start(m)
	if err != nil {
		return Probe{}, err
	}
	defer r.End()
	return r.Up(ctx)
}

func parse(line string) Probe {
	line = strings.TrimSpace(line)
	p := Probe{Line: line, Values: map[string]string{}}
	head, _, _ := strings.Cut(line, " cmdline=")
	for _, m := range detail.FindAllStringSubmatch(head, -1) {
		p.Values[m[1]] = m[2]
	}
	return p
}

func (m Machine) args(console, report string) ([]string, error) {
	// One processor: several machines run side by side on the few that there are,
	// and a boot in emulation keeps one busy. QMP is on the standard streams.
	args := []string{"-machine", "q35,accel=tcg,memory-backend=ram", "-object", "memory-backend-memfd,id=ram,size=768M", "-m", "768",
		"-cpu", "max", "-smp", "1", "-display", "none",
		"-serial", "file:" + console, "-serial", "file:" + report, "-qmp", "stdio", "-no-reboot", "-nodefaults", "-vga", "std"}
	drive := "if=none,format=raw,cache=unsafe,file=" + strings.ReplaceAll(m.Image, ",", ",,")
	if !m.Keep {
		drive += ",snapshot=on"
	}
	args = append(args, "-drive", drive+",id=d0")
	nic := m.NIC
	switch m.Bus {
	case "pvscsi":
		args = append(args, "-device", "pvscsi,id=scsi0", "-device", "scsi-hd,bus=scsi0.0,drive=d0,bootindex=2")
		if m.Firmware == "efi" {
			// Not every OVMF has a driver for this controller: the firmware reads
			// loader and kernel from a copy on SATA, which the guest's initramfs
			// has no driver for in turn.
			loader := cmp.Or(m.Loader, m.Image)
			args = append(args, "-drive", "if=none,format=raw,cache=unsafe,snapshot=on,file="+strings.ReplaceAll(loader, ",", ",,")+",id=d1",
				"-device", "ide-hd,drive=d1,bootindex=1")
		}
		if nic == "" {
			nic = "vmxnet3"
		}
	case "nvme":
		// QEMU has no ENA device: any NIC shows that names do not matter.
		args = append(args, "-device", "nvme,drive=d0,serial=vol0123456789abcdef0,bootindex=1")
		if nic == "" {
			nic = "e1000"
		}
	default:
		return nil, fmt.Errorf("no bus is called %q", m.Bus)
	}
	args = append(args, "-netdev", "user,id=n0,restrict=on", "-device", nic+",netdev=n0,romfile=")
	if m.Firmware != "efi" {
		return args, nil
	}
	vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		return nil, fmt.Errorf("read UEFI's variables (Debian: apt-get install ovmf): %w", err)
	}
	own := filepath.Join(m.Dir, fmt.Sprintf("vars-%d.fd", time.Now().UnixNano()))
	if err := os.WriteFile(own, vars, 0o600); err != nil {
		return nil, err
	}
	return append(args, "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,file="+own), nil
}
