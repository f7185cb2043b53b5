package vcenter_test

import (
	"bytes"
	"compress/zlib"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"testing"

	gfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/vcenter"
)

// TestExportLease decodes what a lease serves and compares it with the
// frozen disk.
func TestExportLease(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm, d := tracked(e, 40*mib+512) // more than one grain table
	write(t, d, 100*kib, noise(1, 300*kib))
	write(t, d, 39*mib, noise(2, mib+512))
	snap := e.snap(vm, "s")
	f, n, _ := e.v.Frozen(snap.Value, d.Key())
	want := content(t, f, n)
	write(t, d, 0, noise(3, mib))
	lease, err := e.obj(vm).ExportSnapshot(e.ctx, &snap)
	if err != nil {
		t.Fatal(err)
	}
	info, err := lease.Wait(e.ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := hc.Get(info.Items[0].URL.String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil || len(b) < 512 || string(b[:4]) != "KDMV" {
		t.Fatalf("not a sparse extent: %v, %d bytes", err, len(b))
	}
	same(t, "export", unpack(t, b, n), want)
	if err := lease.Complete(e.ctx); err != nil {
		t.Fatal(err)
	}
	if res, err := hc.Get(info.Items[0].URL.String()); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("after the lease: %v, %v", res, err)
	}
}

func unpack(t *testing.T, b []byte, size int64) []byte {
	t.Helper()
	le := binary.LittleEndian
	got := make([]byte, (size+grain-1)/grain*grain)
	for p := int(le.Uint64(b[64:])) * 512; p < len(b); {
		at, n := int64(le.Uint64(b[p:])), int(le.Uint32(b[p+8:]))
		if n == 0 {
			p += 512 + int(at)*512
			continue
		}
		z, err := zlib.NewReader(bytes.NewReader(b[p+12 : p+12+n]))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		copy(got[at*512:], raw)
		p += (12 + n + 511) / 512 * 512
	}
	return got[:size]
}

func TestDisabledMethods(t *testing.T) {
	t.Parallel()
	e := start(t)
	vm := e.addVM(vcenter.VMSpec{Name: "a", Disks: []vcenter.DiskSpec{{Size: mib}}})
	vm.DisableMethods("RelocateVM_Task")
	host := e.v.Hosts()[1]
	move := func() error {
		return e.wait(e.obj(vm).Relocate(e.ctx, types.VirtualMachineRelocateSpec{Host: &host}, ""))
	}
	if err := move(); !gfault.Is(err, &types.MethodDisabled{}) {
		t.Errorf("disabled: %v", err)
	}
	if got := e.props(vm, "disabledMethod").DisabledMethod; len(got) != 1 {
		t.Errorf("disabledMethod %v", got)
	}
	vm.EnableMethods()
	if err := move(); err != nil {
		t.Errorf("enabled: %v", err)
	}
}
