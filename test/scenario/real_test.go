package scenario_test

import (
	"context"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/debug"
	"github.com/vmware/govmomi/vim25/soap"

	"snapferry/ebs"
	"snapferry/test/wirelog"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

const (
	// realTag names the vSphere tag that VMs must carry to be touched by the
	// real world; see docs/field-test.md.
	realTag = "SNAPFERRY_REAL_TAG"
	// realLog is the file for the wire log.
	realLog = "SNAPFERRY_WIRE_LOG"
)

// reality is a real vCenter and a real account, as govc's and the SDK's
// environment name them.
type reality struct {
	vc    *vsphere.Client
	store *ebs.Store
	ours  []transfer.SnapshotID // made by this test: deleted at its end
	vms   []transfer.VM         // that carry the tag
	open  func(transfer.VM) transfer.Source
}

// real connects to the real world, or skips and says why.
func real(t *testing.T) *reality {
	t.Helper()
	tag := os.Getenv(realTag)
	if tag == "" || os.Getenv("GOVC_URL") == "" {
		t.Skipf("no real world: set GOVC_URL, AWS_REGION and %s (the vSphere tag of the VMs that may be touched); see docs/field-test.md", realTag)
	}
	log := openWireLog(t)
	r := &reality{}
	var err error
	r.vc, err = vsphere.Dial(t.Context(), vsphere.Config{
		URL: os.Getenv("GOVC_URL"), Username: os.Getenv("GOVC_USERNAME"), Password: os.Getenv("GOVC_PASSWORD"),
		Insecure: slices.Contains([]string{"1", "true"}, os.Getenv("GOVC_INSECURE")), CACertFiles: os.Getenv("GOVC_TLS_CA_CERTS"), KnownHosts: os.Getenv("GOVC_TLS_KNOWN_HOSTS"),
	})
	must(t, err)
	t.Cleanup(func() { _ = r.vc.Close(context.WithoutCancel(t.Context())) })
	r.store, err = ebs.Open(t.Context(), ebs.Config{Trace: func(x ebs.Exchange) {
		log.Linef("%s: %s took %v: %v", x.Op, x.What, x.Took.Round(time.Millisecond), x.Err)
	}})
	must(t, err)
	appliance, err := hotadd.New(t.Context(), r.vc, hotadd.Config{Appliance: os.Getenv("SNAPFERRY_APPLIANCE")})
	must(t, err)
	r.open = func(vm transfer.VM) transfer.Source { return r.vc.Source(vm.ID, vsphere.Options{Reader: appliance}) }
	r.vms = tagged(t, r.vc, tag)
	return r
}

func openWireLog(t *testing.T) *wirelog.Log {
	t.Helper()
	path := os.Getenv(realLog)
	if path == "" {
		path = os.DevNull
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	log := wirelog.New(f)
	debug.SetProvider(log)
	return log
}

// tagged lists the VMs that carry a vSphere tag: the only ones that the real
// world touches.
func tagged(t *testing.T, vc *vsphere.Client, tag string) (vms []transfer.VM) {
	t.Helper()
	c := rest.NewClient(vc.VIM())
	u, err := soap.ParseURL(os.Getenv("GOVC_URL"))
	must(t, err)
	if name := os.Getenv("GOVC_USERNAME"); name != "" {
		u.User = url.UserPassword(name, os.Getenv("GOVC_PASSWORD"))
	}
	must(t, c.Login(t.Context(), u.User))
	attached, err := tags.NewManager(c).GetAttachedObjectsOnTags(t.Context(), []string{tag})
	must(t, err)
	for _, a := range attached {
		for _, o := range a.ObjectIDs {
			if o.Reference().Type == "VirtualMachine" {
				vm, err := vc.Find(t.Context(), o.Reference().Value)
				must(t, err)
				vms = append(vms, vm)
			}
		}
	}
	if len(vms) == 0 {
		t.Fatalf("no VM carries the tag %q", tag)
	}
	return vms
}

// TestReal seeds every tagged VM, makes deltas while its guest runs, a cycle
// without pause, proves every point, and deletes what it made.
func TestReal(t *testing.T) {
	r := real(t)
	t.Cleanup(func() { r.cleanUp(t) })
	state := manifest.Dir(t.TempDir())
	for _, vm := range r.vms {
		t.Run(vm.Name, func(t *testing.T) {
			for n := range 4 {
				rep := r.sync(t, vm, state)
				for _, d := range rep.Disks {
					t.Logf("cycle %d: %s by %s because %s: %d areas, %d bytes read, %d put, %d identical, %.0f MB/s", n, d.Label, d.Kind, d.Reason, d.Areas, d.BytesRead, d.Put, d.Identical, d.Rate/1e6)
				}
				t.Logf("cycle %d: %s, frozen %v, quiesced %v, calls %+v, alarms %v", n, rep.Outcome, rep.FrozenFor, rep.Quiesced, rep.Calls, rep.Alarms)
			}
			r.prove(t, vm, state)
			r.nothingLeft(t, vm)
		})
	}
}

func (r *reality) sync(t *testing.T, vm transfer.VM, state manifest.Dir) transfer.Report {
	t.Helper()
	calls := func() (c transfer.Calls) {
		c.VCenter = r.vc.Calls()
		for _, n := range r.store.Calls() {
			c.AWS += n
		}
		return c
	}
	c := &transfer.Cycle{
		Env: transfer.Env{Store: r.store, State: state, Appliance: "field-test", Buffers: transfer.NewBuffers(80),
			Reads: 16, Puts: 64, Audit: transfer.DefaultAudit, Now: time.Now, Cleanup: transfer.DefaultCleanup},
		Source: r.open(vm), Progress: transfer.NewProgress(time.Now, calls),
	}
	rep, err := c.Run(t.Context())
	for _, d := range rep.Disks {
		if d.Snapshot != "" {
			r.ours = append(r.ours, d.Snapshot)
		}
	}
	must(t, err)
	return rep
}

func (r *reality) prove(t *testing.T, vm transfer.VM, state manifest.Dir) {
	t.Helper()
	all, err := r.store.Snapshots(t.Context(), vm.ID)
	must(t, err)
	point := transfer.Points(all)[0]
	if !point.Complete {
		t.Fatalf("the newest point is not complete: %s", point.Missing)
	}
	for _, snap := range point.Disks {
		reader, err := r.store.Read(t.Context(), snap.ID)
		must(t, err)
		known := state.Find(vm.ID.VCenter, vm.ID.Moref, snap.Label.Disk.String(), string(snap.ID), string(snap.Label.Cycle))
		proved, err := (&transfer.ReadBack{Snapshot: snap, Reader: reader, Manifest: known, Buffers: transfer.NewBuffers(80), Gets: 64}).Run(t.Context())
		must(t, err)
		if !proved.OK || proved.Proof == transfer.ProofNone {
			t.Errorf("%s: %+v", snap.ID, proved)
		}
	}
}

func (r *reality) nothingLeft(t *testing.T, vm transfer.VM) {
	t.Helper()
	left, err := r.vc.OurSnapshots(t.Context(), vm.ID)
	must(t, err)
	for _, s := range left {
		t.Errorf("left: VM snapshot %s", s.Name)
	}
}

// cleanUp deletes the EBS snapshots of this test, newest first, and nothing
// else.
func (r *reality) cleanUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	slices.Reverse(r.ours)
	for _, id := range slices.Compact(r.ours) {
		if err := r.store.Delete(ctx, id); err != nil {
			t.Errorf("delete %s by hand: %v", id, err)
		}
	}
}
