package guest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Kind is a guest that can be built.
type Kind string

// The guests.
const (
	BIOS Kind = "bios" // MBR, ext4, initramfs-tools
	UEFI Kind = "uefi" // GPT, ext4, initramfs-tools, no fallback loader
	LVM  Kind = "lvm"  // MBR, BIOS, ext4 /boot, xfs on LVM, dracut
)

// Firmware is what boots the guest, in vSphere's words.
func (k Kind) Firmware() string {
	if k == UEFI {
		return "efi"
	}
	return "bios"
}

//go:embed scripts/*.sh
var scripts embed.FS

// buildLimit: mmdebstrap takes 40 s on an idle machine, five minutes on one that
// is not; the appliance that lays out the disk as long.
const buildLimit = 30 * time.Minute

// programs that building and booting need, and their Debian packages.
var programs = [][2]string{
	{"mmdebstrap", "mmdebstrap"}, {"guestfish", "libguestfs-tools"}, {"qemu-img", "qemu-utils"}, {"qemu-nbd", "qemu-utils"},
	{"qemu-system-x86_64", "qemu-system-x86"}, {"mcopy", "mtools"},
}

// files that they need beside.
var files = [][2]string{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"},
	{"/usr/lib/x86_64-linux-gnu/guestfs/supermin.d/packages-xfs", "libguestfs-xfs"},
}

// Need says what is missing on this machine to build and boot guests; nil if
// nothing is.
func Need() error {
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p[0]); err != nil {
			missing = append(missing, p[1])
		}
	}
	for _, f := range files {
		if _, err := os.Stat(f[0]); err != nil {
			missing = append(missing, f[1])
		}
	}
	if kernels, _ := filepath.Glob("/boot/vmlinuz-*"); len(kernels) == 0 {
		missing = append(missing, "linux-image-amd64") // which libguestfs boots
	}
	if len(missing) > 0 {
		return fmt.Errorf("guests need packages that are not installed: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	if os.Getuid() != 0 {
		return errors.New("building guests needs root")
	}
	return nil
}

// Image returns the raw disk of a guest, built if this machine has none of these
// scripts yet. Nobody may write to it.
func Image(ctx context.Context, kind Kind) (string, error) {
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	id, err := scriptsID()
	if err != nil {
		return "", err
	}
	image := filepath.Join(dir, fmt.Sprintf("%s-%s.raw", kind, id))
	lock, err := os.OpenFile(filepath.Join(dir, string(kind)+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("build guest %s: %w", kind, err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // another test process may be building it
		return "", fmt.Errorf("build guest %s: %w", kind, err)
	}
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	if err := Need(); err != nil {
		return "", err
	}
	if err := build(ctx, kind, dir, image); err != nil {
		return "", fmt.Errorf("build guest %s: %w", kind, err)
	}
	return image, nil
}

func cacheDir() (string, error) {
	dir := os.Getenv("SNAPFERRY_GUEST_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the folder for guests: %w; or set SNAPFERRY_GUEST_CACHE", err)
		}
		dir = filepath.Join(user, "snapferry", "guests")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// scriptsID changes with the scripts, and the guests with it.
func scriptsID() (string, error) {
	h := sha256.New()
	for _, name := range []string{"scripts/rootfs.sh", "scripts/image.sh"} {
		b, err := scripts.ReadFile(name)
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

func build(ctx context.Context, kind Kind, dir, image string) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	tar, raw := filepath.Join(work, "root.tar"), filepath.Join(work, "disk.raw")
	for _, step := range [][]string{{"rootfs.sh", string(kind), tar}, {"image.sh", string(kind), tar, raw}} {
		text, err := scripts.ReadFile("scripts/" + step[0])
		if err != nil {
			return err
		}
		script := filepath.Join(work, step[0])
		if err := os.WriteFile(script, text, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "sh", append([]string{script}, step[1:]...)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+work)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", step[0], err, last(string(out), 4096))
		}
	}
	return os.Rename(raw, image)
}

func last(s string, n int) string {
	if len(s) > n {
		s = "… " + s[len(s)-n:]
	}
	return strings.TrimSpace(strings.ToValidUTF8(s, "\ufffd"))
}
