package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

var vm = transfer.VMID{VCenter: "vc-1", Moref: "vm-7"}

// rig is a cloud, a source beside it, and what the caller of the launcher saved.
type rig struct {
	*cloud
	t     *testing.T
	saved []byte

	on      bool // the source
	stuck   bool // its guest does not shut down
	forced  int
	shutoff int
	cycles  int
	ready   bool // the guest needs no conversion
	user    string
	addr    string // where the instance answers, for checks
}

func newRig(t *testing.T) *rig {
	g := &rig{cloud: newCloud(t), t: t, on: true}
	g.point("c1", 2)
	return g
}

// point makes the snapshots of a recovery point.
func (g *rig) point(cycle string, disks int) transfer.Point {
	p := transfer.Point{Cycle: transfer.CycleID(cycle), VM: vm, VMName: "app01", Complete: true, Frozen: g.clock}
	for n := 1; n <= disks; n++ {
		id := fmt.Sprintf("snap-%s-%d", cycle, n)
		p.Disks = append(p.Disks, transfer.Snapshot{ID: transfer.SnapshotID(id), State: transfer.Completed, VolumeGiB: 8, Label: transfer.Label{
			VM: vm, VMName: "app01", Cycle: p.Cycle, Ordinal: n, Of: disks, DiskLabel: fmt.Sprintf("Hard disk %d", n), Kind: transfer.Delta,
			Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "bios", CPUs: 2, MemoryMiB: 4096},
		}})
		g.snaps[id] = &snap{thing: thing{id: id, tags: map[string]string{tagVersion: "1", tagVCenter: vm.VCenter, tagVM: vm.Moref, tagCycle: cycle, tagKind: "delta"}}, gib: 8, state: types.SnapshotStateCompleted}
	}
	return p
}

func (g *rig) launcher() *Launcher {
	g.t.Helper()
	l, err := New(Config{
		EC2: g.cloud, Convert: g.convert, Now: g.Now, Sleep: g.Sleep, Dial: g.connect,
		Save: func(_ context.Context, j Job) error {
			b, err := json.Marshal(j)
			if err == nil {
				err = g.call("save", func() { g.saved = b })
			}
			return err
		},
		ReadFile: func(string) ([]byte, error) { return []byte(g.user), nil },
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return l
}

// convert makes a conversion once for each point, as the real one does.
func (g *rig) convert(_ context.Context, p transfer.Point) (transfer.SnapshotID, ConversionReport, error) {
	if g.ready {
		return "", ConversionReport{Ready: true}, nil
	}
	id := "snap-conv-" + string(p.Cycle)
	err := g.call("convert", func() {
		if g.snaps[id] == nil {
			g.snaps[id] = &snap{thing: thing{id: id, tags: map[string]string{
				tagVersion: "1", tagVCenter: vm.VCenter, tagVM: vm.Moref, tagKind: "conversion", tagConverts: string(p.Cycle), tagCycle: "conv-of-" + string(p.Cycle),
			}}, gib: 8, state: types.SnapshotStateCompleted}
		}
	})
	return transfer.SnapshotID(id), ConversionReport{Changes: []string{"nvme into the initramfs"}}, err
}

func (g *rig) source() Source {
	return Source{
		PreSync: func(context.Context) error { return g.call("pre-sync", func() {}) },
		PowerOff: func(ctx context.Context, force bool) error {
			if g.stuck && !force {
				<-ctx.Done()
				return ctx.Err()
			}
			return g.call("power-off", func() {
				if g.on {
					g.shutoff++
				}
				if g.on && force {
					g.forced++
				}
				g.on = false
			})
		},
		FinalSync: func(context.Context) (p transfer.Point, err error) {
			err = g.call("final-sync", func() {
				if g.on {
					g.t.Error("the final sync ran while the source was on")
				}
				g.clock = g.clock.Add(20 * time.Second)
				g.cycles = 1
				p = g.point("c2", 2)
			})
			return p, err
		},
		PowerOn: func(context.Context) error {
			return g.call("power-on", func() {
				for _, i := range g.instances {
					if s := i.state(g.clock); i.tags[tagLaunch] == "cutover" && s != "stopped" && s != "terminated" {
						g.t.Errorf("the source went on while %s is %s", i.id, s)
					}
				}
				g.on = true
			})
		},
	}
}

func (g *rig) settings(p Purpose, flat map[string]string) Settings {
	g.t.Helper()
	all := map[string]string{"subnet": "subnet-cut", "test.subnet": "subnet-test"}
	maps.Copy(all, flat)
	s, err := ParseSettings(all, p)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

func (g *rig) job(p Purpose, flat map[string]string) Job {
	g.t.Helper()
	r := Request{VM: vm, VMName: "app01", Purpose: p, Point: newRigPoint("c1"), Settings: g.settings(p, flat), SourceTags: map[string]string{"env": "prod"}}
	return NewJob(r, g.Now())
}

// newRigPoint is a point as a value.
func newRigPoint(cycle transfer.CycleID) transfer.Point {
	g := &rig{cloud: &cloud{snaps: map[string]*snap{}}}
	return g.point(string(cycle), 2)
}

// load is the job as it was saved last, or as it was handed over first.
func (g *rig) load(first Job) *Job {
	g.t.Helper()
	j := first
	if g.saved != nil {
		j = Job{}
		if err := json.Unmarshal(g.saved, &j); err != nil {
			g.t.Fatal(err)
		}
	}
	return &j
}

func (g *rig) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("%v\n(hint: %s)\ncalls: %s", err, transfer.HintOf(err), strings.Join(tailOf(g.ops, 30), " "))
	}
}

func tailOf(all []string, n int) []string { return all[max(0, len(all)-n):] }

// only fails where more is there than named; an entry may be a prefix.
func (g *rig) only(want ...string) {
	g.t.Helper()
	got := g.ours()
	got = slices.DeleteFunc(got, func(id string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(id, w) })
	})
	if len(got) > 0 {
		g.t.Errorf("there still are %v", got)
	}
}

// marks fails where a snapshot is still marked as used.
func (g *rig) unmarked() {
	g.t.Helper()
	for id, s := range g.snaps {
		if u := s.tags[tagInUse]; u != "" {
			g.t.Errorf("%s is still marked as used by %s", id, u)
		}
	}
}

func (g *rig) count(op string) (n int) {
	for _, o := range g.ops {
		if o == op {
			n++
		}
	}
	return n
}

// running lists instances that are there, for a purpose.
func (g *rig) alive(p Purpose) (out []*instance) {
	for _, i := range g.instances {
		if i.tags[tagLaunch] == string(p) && i.over.IsZero() {
			out = append(out, i)
		}
	}
	return out
}
