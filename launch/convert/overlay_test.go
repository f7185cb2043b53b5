package convert_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapferry/launch/convert"
	"snapferry/test/guest"
	"snapferry/test/memory"
	"snapferry/transfer"
)

// tools skips where QEMU's tools are not there, or fails where guests are asked
// for.
func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("SNAPFERRY_GUESTS") != "" {
			t.Fatalf("%s is missing: %v", name, guest.Need())
		}
		t.Skipf("%s is not installed (Debian: qemu-utils, libwin-hivex-perl)", name)
	}
}

// TestOverlay: what QEMU writes to the overlay, and nothing else, becomes the
// conversion, through QEMU's own tools.
func TestOverlay(t *testing.T) {
	tools(t, "qemu-img", "qemu-nbd", "qemu-io")
	const size = 40 * transfer.BlockSize
	image := filepath.Join(t.TempDir(), "disk.raw")
	s := newSnapshot(0, 1, 7, 20, 39)
	if err := os.WriteFile(image, s.bytes(size), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: memory.NewStore(), image: image}
	point := w.point("bios")
	c := w.converter()
	dir, err := convert.NewWorkdir(c.Folder, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Remove()
	reader, err := w.store.Read(t.Context(), point.Disks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	base, err := convert.NewBase(t.Context(), reader, size, filepath.Join(dir.Path(), "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	socket, stop, err := convert.Serve(dir, t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := convert.MakeOverlay(dir, t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	writes := []string{"write -P 0x11 524788 100", "write -P 0 10485760 524288", "write -P 0x22 15728640 4096", "read -P 0 2097152 512"}
	for _, cmd := range writes {
		if out, err := convert.Run(dir, t.Context(), time.Minute, "qemu-io", "-f", "qcow2", "-c", cmd, overlay); err != nil {
			t.Fatalf("%s: %v %s", cmd, err, out)
		}
	}
	o, err := convert.OpenOverlay(dir, t.Context(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	put := transfer.Convert{Env: c.Env, Base: point.Disks[0], Reader: o, Changed: o.Changed, Known: base.Digest, Scratch: dir.Path()}
	done, err := put.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if done.Report.Put != 3 || done.Report.Blocks != 3 {
		t.Errorf("report %+v", done.Report)
	}
	want := s.bytes(size)
	copy(want[524788:], bytes.Repeat([]byte{0x11}, 100))
	clear(want[10485760 : 10485760+524288])
	copy(want[15728640:], bytes.Repeat([]byte{0x22}, 4096))
	got := make([]byte, size)
	img, _ := w.store.Image(done.Snapshot)
	if _, err := img.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the conversion differs: %v", err)
	}
}

func TestOverlayThatCannotBeServed(t *testing.T) {
	tools(t, "qemu-nbd")
	dir, _ := workdir(t)
	defer dir.Remove()
	path := filepath.Join(dir.Path(), "overlay.qcow2")
	if err := os.WriteFile(path, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := convert.OpenOverlay(dir, context.WithoutCancel(t.Context()), path); err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("error %v", err)
	}
}
