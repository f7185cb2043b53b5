package lab_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"snapferry/nbd"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

func start(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Start(lab.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestLiveDisksAreServedReadWrite(t *testing.T) {
	l := start(t)
	vm, err := l.AddVM(vcenter.VMSpec{Name: "app01", Disks: []vcenter.DiskSpec{{Size: 1 << 20}, {Size: 2 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	socket := filepath.Join(t.TempDir(), "s")
	served := make(chan error, 1)
	go func() { served <- l.ServeNBD(ctx, socket) }()
	var c *nbd.Client
	for deadline := time.Now().Add(10 * time.Second); ; { // until the socket is there
		if c, err = nbd.Dial(ctx, "unix", socket, "app01/1", nbd.Options{}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Size() != 2<<20 {
		t.Errorf("export of %d bytes", c.Size())
	}
	want := bytes.Repeat([]byte("guest "), 200)
	if _, err := c.WriteAt(want[:1024], 4096); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(ctx); err != nil {
		t.Error(err)
	}
	got := make([]byte, 1024)
	if _, err := vm.Disks()[1].ReadAt(got, 4096); err != nil || !bytes.Equal(got, want[:1024]) {
		t.Errorf("the disk does not hold what was written: %v", err)
	}
	if _, err := nbd.Dial(ctx, "unix", socket, "app01/7", nbd.Options{}); err == nil {
		t.Error("an export that does not exist was served")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-served; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("serve: %v", err)
	}
}
