package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"snapferry/nbd"
	"snapferry/test/guest"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

const (
	vmName = "guest"
	mib    = 1 << 20
)

// source is a guest that runs from the live disk of a VM of a lab.
type source struct {
	vm      *vcenter.VM
	machine guest.Machine

	mu      sync.Mutex
	running *guest.Running
}

// newSource makes the VM and puts the guest's image onto its disk. The guest is
// started by boot.
func newSource(t *testing.T, l *lab.Lab, kind guest.Kind, image, dir string) *source {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	defer f.Close()
	fi, err := f.Stat()
	must(t, err)
	vm, err := l.AddVM(vcenter.VMSpec{
		Name: vmName, Firmware: kind.Firmware(), CBT: true, MemoryMB: 1024, CPUs: 1, Disks: []vcenter.DiskSpec{{Size: fi.Size()}},
	})
	must(t, err)
	must(t, copyData(vm.Disks()[0], f, fi.Size()))
	socket := filepath.Join(dir, "live.sock")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.ServeNBD(ctx, socket) }()
	s := &source{vm: vm, machine: guest.Machine{
		Image: "nbd+unix:///" + vmName + "/0?socket=" + socket, Firmware: kind.Firmware(), Bus: "pvscsi", Dir: dir, Keep: true,
	}}
	s.machine.Loader, err = guest.Source(t.Context(), kind, image, dir)
	must(t, err)
	t.Cleanup(func() { // the guest before its disk
		s.end()
		cancel()
		if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("serve the live disk: %v", err)
		}
	})
	await(t, socket)
	vm.SetGuest(vcenter.GuestHooks{Shutdown: s.shutDown, Off: s.end, On: s.start})
	return s
}

// await waits for a server's socket.
func await(t *testing.T, socket string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := nbd.Dial(t.Context(), "unix", socket, vmName+"/0", nbd.Options{})
		if err == nil {
			must(t, c.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *source) start() error {
	r, err := guest.Start(s.machine)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = r
	return nil
}

func (s *source) guest() *guest.Running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// shutDown is what VMware Tools would do.
func (s *source) shutDown(ctx context.Context) error {
	r := s.guest()
	if err := r.PowerButton(); err != nil {
		return err
	}
	select {
	case <-r.Off():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *source) end() {
	if r := s.guest(); r != nil {
		r.End()
	}
}

// committed is what the guest has told so far that it committed.
func (s *source) committed(t *testing.T) guest.Work {
	t.Helper()
	w, err := guest.Committed(s.guest().Told())
	must(t, err)
	return w
}

// awaitMore waits until the guest has committed n entries more than that.
func (s *source) awaitMore(t *testing.T, than guest.Work, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guest.Patience())
	defer cancel()
	must(t, s.guest().Until(ctx, func(report string) bool {
		w, err := guest.Committed(report)
		return err == nil && len(w.Entries) >= len(than.Entries)+n
	}))
}

// copyData copies what is not zero.
func copyData(to io.WriterAt, from io.ReaderAt, size int64) error {
	const piece = 256 << 10
	buf, zeros := make([]byte, piece), make([]byte, piece)
	for off := int64(0); off < size; off += piece {
		b := buf[:min(piece, size-off)]
		if _, err := from.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		if _, err := to.WriteAt(b, off); err != nil {
			return err
		}
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
