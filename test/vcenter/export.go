package vcenter

import (
	"net/http"
	"path"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ExportSnapshot opens a lease; its URLs serve the frozen disks as
// stream-optimized VMDKs, where vcsim would serve the descriptor's text.
func (s *snapshotNode) ExportSnapshot(ctx *simulator.Context, q *types.ExportSnapshot) soap.HasFault {
	res := s.VirtualMachineSnapshot.ExportSnapshot(ctx, q)
	if b, ok := res.(*methods.ExportSnapshotBody); ok && b.Res != nil {
		v := s.snap.vm.v
		v.mu.Lock()
		v.leases[b.Res.Returnval.Value] = s.snap
		v.mu.Unlock()
	}
	return res
}

// closeLease ends a lease when its owner completes or aborts it.
func (v *VCenter) closeLease(m *simulator.Method) {
	if m.Name != "HttpNfcLeaseComplete" && m.Name != "HttpNfcLeaseAbort" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.leases, m.This.Value)
}

// serveLease serves one disk of a lease. As with ESXi the lease's name is the
// only permission needed.
func (v *VCenter) serveLease(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	snap := v.leases[r.PathValue("lease")]
	var disks []*Disk
	if snap != nil {
		disks = snap.vm.diskList()
	}
	v.mu.Unlock()
	for _, d := range disks {
		d.mu.RLock()
		f := d.frozen[snap.ref.Value]
		found := f != nil && path.Base(f.link.rel) == r.PathValue("file")
		d.mu.RUnlock()
		if !found {
			continue
		}
		w.Header().Set("Content-Type", "application/x-vnd.vmware-streamVmdk")
		sw := &streamWriter{w: w, r: frozenReader{d, snap.ref.Value}, size: f.size}
		if err := sw.write(); err != nil {
			panic(http.ErrAbortHandler) // too late for a status: the client sees a short body
		}
		return
	}
	http.NotFound(w, r)
}
