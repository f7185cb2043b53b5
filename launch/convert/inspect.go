package convert

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// inspectScript looks at a Linux guest.
//
//go:embed inspect.sh
var inspectScript string

// scriptLimit bounds the script, most of whose time goes into listing what
// initramfs hold: some ten seconds each in software emulation.
const scriptLimit = 15 * time.Minute

// Refused is the error of a guest that cannot be converted.
type Refused struct{ Why string }

func (r *Refused) Error() string { return r.Why }

// look finds out what the guest is. Everything is mounted read-only when it
// returns, and a tmpfs is on /var/tmp of a Linux guest.
func (s *session) look(ctx context.Context, firmware string) (Facts, error) {
	f := Facts{Firmware: firmware, Tools: map[string]bool{}, Units: map[string]bool{}, Files: map[string]string{}, Free: map[string]int64{}}
	if err := s.filesystems(ctx, &f); err != nil {
		return f, err
	}
	roots, err := s.do(ctx, lookLimit, "inspect-os")
	if err != nil {
		return f, fmt.Errorf("look for the operating system: %w", err)
	}
	switch found := lines(roots); len(found) {
	case 1:
		f.Root = found[0]
	case 0:
		return f, &Refused{noSystem(f)}
	default:
		return f, &Refused{"more than one operating system is on the boot disk: " + strings.Join(found, ", ")}
	}
	if err := s.identity(ctx, &f); err != nil {
		return f, err
	}
	if err := s.mounts(ctx, &f); err != nil {
		return f, err
	}
	switch f.OS {
	case "linux":
		if err := s.mountAll(ctx, f, true); err != nil {
			return f, err
		}
		return f, s.lookLinux(ctx, &f)
	case "windows":
		if err := s.mountAll(ctx, f, true); err != nil {
			return f, err
		}
		return f, s.lookWindows(ctx, &f)
	}
	return f, nil
}

// noSystem says why there may be none.
func noSystem(f Facts) string {
	why := "no operating system was found on the boot disk"
	for _, fs := range f.Filesystems {
		switch {
		case strings.EqualFold(fs.Type, "crypto_LUKS"):
			return why + ": " + fs.Device + " is encrypted (LUKS), and what is in it cannot be seen; make the guest ready before it is replicated"
		case strings.EqualFold(fs.Type, "BitLocker"):
			return why + ": " + fs.Device + " is encrypted (BitLocker); suspend it before the guest is replicated"
		}
	}
	return why + "; where its root is on several disks (an LVM volume group, RAID), it cannot be converted: make the guest ready before it is replicated"
}

func lines(s string) []string {
	return slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
}

// filesystems finds all on the disk, with their UUIDs.
func (s *session) filesystems(ctx context.Context, f *Facts) error {
	out, err := s.do(ctx, lookLimit, "list-filesystems")
	if err != nil {
		return fmt.Errorf("list the file systems: %w", err)
	}
	for _, l := range lines(out) {
		device, kind, ok := strings.Cut(l, ": ")
		if !ok {
			continue
		}
		fs := Filesystem{Device: device, Type: kind}
		if kind != "unknown" && !strings.HasPrefix(device, "btrfsvol:") {
			if out, err = s.do(ctx, lookLimit, "-vfs-uuid", device); err != nil {
				return fmt.Errorf("read the UUID of %s: %w", device, err)
			}
			fs.UUID = strings.TrimSpace(out)
		}
		f.Filesystems = append(f.Filesystems, fs)
	}
	return nil
}

func (s *session) identity(ctx context.Context, f *Facts) error {
	for _, q := range []struct {
		command string
		set     func(string)
	}{
		{"inspect-get-type", func(v string) { f.OS = v }},
		{"inspect-get-distro", func(v string) { f.Distro = v }},
		{"-inspect-get-product-name", func(v string) { f.Product = v }},
		{"inspect-get-major-version", func(v string) { f.Major, _ = strconv.Atoi(v) }},
		{"inspect-get-minor-version", func(v string) { f.Minor, _ = strconv.Atoi(v) }},
		{"inspect-get-arch", func(v string) { f.Arch = v }},
	} {
		out, err := s.do(ctx, lookLimit, q.command, f.Root)
		if err != nil {
			return fmt.Errorf("identify the guest: %w", err)
		}
		q.set(strings.TrimSpace(out))
	}
	return nil
}

func (s *session) mounts(ctx context.Context, f *Facts) error {
	out, err := s.do(ctx, lookLimit, "inspect-get-mountpoints", f.Root)
	if err != nil {
		return fmt.Errorf("find the guest's mount points: %w", err)
	}
	for _, l := range lines(out) {
		if p, device, ok := strings.Cut(l, ": "); ok && strings.HasPrefix(p, "/") && p != "/" {
			f.Mounts = append(f.Mounts, Mount{Path: p, Device: strings.TrimSpace(device)})
		}
	}
	// A mount point's parents come before it.
	slices.SortFunc(f.Mounts, func(a, b Mount) int { return cmp.Or(len(a.Path)-len(b.Path), cmp.Compare(a.Path, b.Path)) })
	return nil
}

// mountAll mounts the guest's file systems. What cannot be mounted is passed
// over unless conversion needs it.
func (s *session) mountAll(ctx context.Context, f Facts, readOnly bool) error {
	command := []string{"mount"}
	switch {
	case readOnly:
		command = []string{"mount-ro"}
	case f.OS == "linux":
		// Making an initramfs reads hundreds of files: the times of that would be
		// blocks all over the disk.
		command = []string{"mount-options", "noatime"}
	}
	mount := func(needed bool, device, path string) error {
		name := command[0]
		if !needed { // guestfish goes on after an error of such a command
			name = "-" + name
		}
		_, err := s.do(ctx, lookLimit, name, append(slices.Clone(command[1:]), device, path)...)
		return err
	}
	if err := mount(true, f.Root, "/"); err != nil {
		return fmt.Errorf("mount the guest's root: %w", err)
	}
	for _, m := range f.Mounts {
		needed := slices.Contains([]string{"/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc"}, m.Path)
		if err := mount(needed, m.Device, m.Path); err != nil {
			return fmt.Errorf("mount the guest's %s: %w", m.Path, err)
		}
	}
	if f.OS != "linux" {
		return nil
	}
	// What the guest's programs write while they work is not to be blocks.
	// The shell's own kind does: /var/tmp may be a link.
	if _, err := s.do(ctx, lookLimit, "sh", "mount -t tmpfs tmpfs /var/tmp"); err != nil {
		return fmt.Errorf("give the guest's programs room: %w", err)
	}
	return nil
}

// unmount takes down what mountAll mounted.
func (s *session) unmount(ctx context.Context, f Facts) error {
	if f.OS == "linux" {
		if _, err := s.do(ctx, lookLimit, "sh", "umount /var/tmp"); err != nil {
			return fmt.Errorf("unmount the guest: %w", err)
		}
	}
	if _, err := s.do(ctx, lookLimit, "umount-all"); err != nil {
		return fmt.Errorf("unmount the guest: %w", err)
	}
	return nil
}

// upload writes a file of the guest.
func (s *session) upload(ctx context.Context, content, path string) error {
	local := s.w.file("upload")
	if err := os.WriteFile(local, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(local)
	if _, err := s.do(ctx, lookLimit, "upload", local, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (s *session) lookLinux(ctx context.Context, f *Facts) error {
	const script = "/var/tmp/inspect"
	if err := s.upload(ctx, inspectScript, script); err != nil {
		return err
	}
	out, err := s.do(ctx, scriptLimit, "sh", "sh "+script+" 2>/dev/null")
	if err != nil {
		return fmt.Errorf("look at the guest: %w", err)
	}
	return parseFacts(out, f)
}

// parseFacts reads what the script printed.
func parseFacts(out string, f *Facts) error {
	file, finished := "", false
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "|"); ok {
			if file != "" {
				f.Files[file] += rest + "\n"
			}
			continue
		}
		rest, ok := strings.CutPrefix(line, "@")
		if !ok {
			continue
		}
		file = ""
		name, value, _ := strings.Cut(rest, " ")
		if name == "file" {
			file = value
			f.Files[file] = ""
			continue
		}
		finished = finished || name == "done"
		f.set(name, value)
	}
	if !finished {
		return errors.New("look at the guest: its shell ended in the middle")
	}
	return nil
}

// set takes one fact.
func (f *Facts) set(name, value string) {
	switch name {
	case "unit":
		f.Units[value] = true
	case "tool":
		f.Tools[value] = true
	case "grub":
		f.Grub = append(f.Grub, value)
	case "linux":
		f.Linux = append(f.Linux, value)
	case "efi":
		f.EFI = append(f.EFI, value)
	case "free":
		kib, mount, _ := strings.Cut(value, " ")
		if n, err := strconv.ParseInt(kib, 10, 64); err == nil {
			f.Free[mount] = n << 10
		}
	case "kernel":
		f.Kernels = append(f.Kernels, Kernel{Version: value})
	}
	if len(f.Kernels) == 0 {
		return
	}
	switch k := &f.Kernels[len(f.Kernels)-1]; name {
	case "image":
		k.Image = value
	case "initramfs":
		k.Initramfs = value
	case "nvme":
		k.NVMe = ModuleState(value)
	case "ena":
		k.ENA = ModuleState(value)
	case "holds":
		if k.Listed = true; value != "listed" {
			k.Holds = append(k.Holds, value)
		}
	}
}
