package convert_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapferry/launch/convert"
	"snapferry/test/memory"
	"snapferry/transfer"
)

// fake puts a guestfish into the path that answers from a folder, which it
// returns.
func fake(t *testing.T, facts string) string {
	t.Helper()
	tools(t, "qemu-img", "qemu-nbd", "qemu-io")
	dir, bin := t.TempDir(), t.TempDir()
	script, err := os.ReadFile("testdata/guestfish.sh")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(script), "@FACTS@", dir)
	put(t, filepath.Join(bin, "guestfish"), text)
	put(t, filepath.Join(dir, "facts"), facts)
	put(t, filepath.Join(dir, "roots"), "/dev/sda1\n")
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
	return dir
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func recorded(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/debian12.facts")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// small is a world of a point of a few blocks, and its converter.
func small(t *testing.T) (*world, transfer.Point, *convert.Converter) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.raw")
	const size = 16 * transfer.BlockSize
	put(t, image, string(newSnapshot(0, 2, 3).bytes(size)))
	w := &world{T: t, store: memory.NewStore(), image: image}
	return w, w.point("bios"), w.converter()
}

func log(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func clean(t *testing.T, c *convert.Converter) {
	t.Helper()
	if left, err := os.ReadDir(c.Folder); err == nil && len(left) > 0 {
		t.Errorf("left in the folder: %v", left)
	}
}

func TestConvertFromEndToEnd(t *testing.T) {
	dir := fake(t, recorded(t))
	w, point, c := small(t)
	c.Tags = map[string]string{"team": "storage"}
	dry := *c
	dry.DryRun = true
	rep, err := dry.Run(t.Context(), point)
	if err != nil || rep.Snapshot != "" || len(rep.Plan.Changes) == 0 || len(rep.Made) > 0 || len(w.points()[0].Conversions) > 0 {
		t.Fatalf("dry run: %+v, %v", rep, err)
	}
	if l := log(t, dir); strings.Contains(l, "\nmount-options ") || strings.Contains(l, "chmod") {
		t.Errorf("a dry run changed the guest: %s", l)
	}
	rep, err = c.Run(t.Context(), point)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Made) != len(rep.Plan.Changes) || rep.Put.Put != 1 || rep.Found || rep.Plan.Ready || rep.Base.Blocks == 0 {
		t.Errorf("report %+v", rep)
	}
	l := log(t, dir)
	for _, want := range []string{"mount-options \"noatime\" \"/dev/sda1\" \"/\"", "\"/etc/fstab\"", "update-initramfs", "mv \"/etc/udev/rules.d/70-persistent-net.rules\" \"/etc/udev/rules.d.before-ec2/70-persistent-net.rules\"", "umount-all\n"} {
		if !strings.Contains(l, want) {
			t.Errorf("guestfish was not told %s", want)
		}
	}
	conv := w.points()[0].Conversions
	if len(conv) != 1 || conv[0].ID != rep.Snapshot || conv[0].State != transfer.Completed || conv[0].Label.Converts != point.Cycle || conv[0].Label.Parent != point.Disks[0].ID {
		t.Fatalf("conversions %+v", conv)
	}
	img, _ := w.store.Image(rep.Snapshot)
	b := make([]byte, 1)
	if _, err := img.ReadAt(b, 1<<20); err != nil || b[0] != 0x77 {
		t.Errorf("the change is not in the conversion: %x, %v", b, err)
	}
	// Neither with the list of before nor with that of now is it done again.
	for name, p := range map[string]transfer.Point{"stale": point, "fresh": w.points()[0]} {
		if again, err := c.Run(t.Context(), p); err != nil || !again.Found || again.Snapshot != rep.Snapshot || len(w.points()[0].Conversions) != 1 {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}
	clean(t, c)
}

func TestAReadyGuestIsLeftAlone(t *testing.T) {
	dir := fake(t, `@tool update-initramfs
@unit systemd-networkd
@file /etc/fstab
|UUID=u-root / ext4 defaults 0 1
@file /etc/systemd/network/lan.network
|[Match]
|Name=e*
|[Network]
|DHCP=yes
@grub /boot/grub/grub.cfg
@linux linux /boot/vmlinuz root=UUID=u-root console=ttyS0,115200n8
@kernel 6.1.0
@image /boot/vmlinuz
@initramfs /boot/initrd
@nvme module
@ena module
@holds nvme
@holds listed
@done yes
`)
	w, point, c := small(t)
	rep, err := c.Run(t.Context(), point)
	if err != nil || !rep.Plan.Ready || rep.Snapshot != point.Disks[0].ID || rep.Put != nil || len(w.points()[0].Conversions) > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	if strings.Contains(log(t, dir), "\nmount ") {
		t.Error("it was mounted writable")
	}
	clean(t, c)
}

func TestAConversionThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       string
		kind       transfer.Kind
	}{
		"no system":             {"roots", "", "no operating system", transfer.Permanent},
		"two systems":           {"roots", "/dev/sda1\n/dev/sda2\n", "more than one", transfer.Permanent},
		"cut off":               {"facts", "@kernel 6\n", "ended in the middle", transfer.Permanent},
		"no kernel":             {"facts", "@done yes\n", "no kernel", transfer.Permanent},
		"the appliance fails":   {"fail", "run", "it was told to fail", transfer.Permanent},
		"looking fails":         {"fail", "inspect-os", "it was told to fail", transfer.Permanent},
		"changing fails":        {"fail", "umount-all\nmv", "it was told to fail", transfer.Permanent},
		"shutting down fails":   {"fail", "shutdown", "it was told to fail", transfer.Permanent},
		"the guest cannot list": {"fail", "list-filesystems", "list the file systems", transfer.Permanent},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fake(t, recorded(t))
			put(t, filepath.Join(dir, c.file), c.text)
			w, point, conv := small(t)
			rep, err := conv.Run(t.Context(), point)
			if err == nil || !strings.Contains(err.Error(), c.want) || transfer.KindOf(err) != c.kind || rep.Snapshot != "" {
				t.Errorf("%+v, error %v", rep, err)
			}
			if len(w.points()[0].Conversions) > 0 {
				t.Error("a snapshot is left")
			}
			clean(t, conv)
		})
	}
}

func TestAConversionThatIsCancelled(t *testing.T) {
	dir := fake(t, recorded(t))
	put(t, filepath.Join(dir, "hang"), "")
	_, point, c := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for { // until the fake hangs
			if _, err := os.Stat(filepath.Join(dir, "hanging")); err == nil || t.Context().Err() != nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	began := time.Now()
	if _, err := c.Run(ctx, point); transfer.KindOf(err) != transfer.Canceled || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	clean(t, c)
}

func TestWhatIsNotConverted(t *testing.T) {
	_, point, c := small(t)
	point.Complete, point.Missing = false, "1 of 2 disks are there"
	if _, err := c.Run(t.Context(), point); err == nil || !strings.Contains(err.Error(), "1 of 2") {
		t.Errorf("half a point: %v", err)
	}
	point.Complete = true
	t.Setenv("PATH", t.TempDir())
	if _, err := c.Run(t.Context(), point); !errors.Is(err, convert.ErrMissingProgram) || !strings.Contains(err.Error(), "libguestfs-tools") {
		t.Errorf("without programs: %v", err)
	}
}
