package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"snapferry/test/vcenter"
)

// guest stands for the operating system of the VM on one disk: it keeps an
// ext4 file system in a file with e2fsprogs, and writes to the virtual disk
// what changed in it, page by page, as a guest's page cache would.
type guest struct {
	disk  *vcenter.Disk
	image string
	files int
}

// page is the granularity of the guest's writes: ext4's own.
const page = 4096

// newGuest makes a file system full of real files and writes it to the disk.
func newGuest(ctx context.Context, dir string, disk *vcenter.Disk) (*guest, error) {
	root := filepath.Join(dir, "root")
	g := &guest{disk: disk, image: filepath.Join(dir, "image")}
	for _, sub := range []string{"etc", "var/log", "srv/data"} {
		if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
			return nil, err
		}
	}
	for i := range 40 {
		if err := writeRandom(filepath.Join(root, fmt.Sprintf("srv/data/file-%02d.bin", i)), 512<<10+int64(i)*7777); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hostname"), []byte("app01\n"), 0o644); err != nil {
		return nil, err
	}
	g.files = 41
	if err := tool(ctx, "mkfs.ext4", "-q", "-F", "-d", root, g.image, fmt.Sprint(disk.Size()/1024)+"k"); err != nil {
		return nil, err
	}
	_, err := g.flush()
	return g, err
}

func writeRandom(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, n)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// tool runs a program of e2fsprogs, which may live in sbin.
func tool(ctx context.Context, name string, args ...string) error {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		return fmt.Errorf("%s is missing; install the package e2fsprogs", name)
	}
	if out, err := exec.CommandContext(ctx, path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

func (g *guest) describe() string { return fmt.Sprintf("ext4 with %d files", g.files) }

// change writes a file, replaces one and removes one, and says so.
func (g *guest) change(ctx context.Context) (string, error) {
	dir := filepath.Dir(g.image)
	fresh, log := filepath.Join(dir, "fresh"), filepath.Join(dir, "log")
	if err := writeRandom(fresh, 3<<20); err != nil {
		return "", err
	}
	if err := os.WriteFile(log, bytes.Repeat([]byte("it happened again\n"), 5000), 0o644); err != nil {
		return "", err
	}
	for _, request := range []string{"write " + fresh + " srv/data/fresh.bin", "write " + log + " var/log/app.log", "rm srv/data/file-07.bin"} {
		if err := tool(ctx, "debugfs", "-w", "-R", request, g.image); err != nil {
			return "", err
		}
	}
	n, err := g.flush()
	return fmt.Sprintf("2 files written, 1 removed: %d KiB of the disk changed", n>>10), err
}

// flush writes the pages that differ from the disk to it and returns their
// bytes.
func (g *guest) flush() (written int64, err error) {
	f, err := os.Open(g.image)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	want, have := make([]byte, mib), make([]byte, mib)
	for off := int64(0); ; off += mib {
		n, rerr := io.ReadFull(f, want)
		if n == 0 {
			return written, nil
		}
		if _, err := g.disk.ReadAt(have[:n], off); err != nil {
			return written, err
		}
		for at := 0; at < n; at += page {
			end := min(at+page, n)
			if bytes.Equal(want[at:end], have[at:end]) {
				continue
			}
			if _, err := g.disk.WriteAt(want[at:end], off+int64(at)); err != nil {
				return written, err
			}
			written += int64(end - at)
		}
		if rerr != nil {
			return written, nil // the end of the image
		}
	}
}

// fsck checks the file system in a restored disk and changes nothing.
func (g *guest) fsck(ctx context.Context, file string) error {
	return tool(ctx, "fsck.ext4", "-f", "-n", file)
}
