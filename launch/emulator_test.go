package launch

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go/middleware"

	"snapferry/test/aws"
	"snapferry/transfer"
)

// world is the emulator with a network, behind the SDK's own client, in which a
// program can end at any call that changes something.
type world struct {
	t           *testing.T
	e           *aws.Emulator
	cfg         awssdk.Config
	ebs         *ebs.Client
	cut, test   string // subnets
	group       string
	changes     int
	killAt      int
	kill        context.CancelFunc
	dead        bool
	saved       *Job
	sourceOn    bool
	stock       string
	conversions map[transfer.CycleID]transfer.SnapshotID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	const short = 3 * time.Millisecond
	e, err := aws.New(aws.Options{
		BootDelay: short, StatusDelay: short, StopDelay: short, TerminateDelay: short, VolumeDelay: short, ImageDelay: short, TaskDelay: short,
		VisibleDelay: 2 * short, TagDelay: 2 * short,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, e: e, sourceOn: true, conversions: map[transfer.CycleID]transfer.SnapshotID{}, kill: func() {}}
	t.Cleanup(func() { _ = e.Close() })
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	w.cfg = awssdk.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""),
		HTTPClient: &http.Client{Transport: transport}, Retryer: func() awssdk.Retryer { return awssdk.NopRetryer{} },
	}
	w.ebs = ebs.NewFromConfig(w.cfg, func(o *ebs.Options) { o.BaseEndpoint = awssdk.String(e.EBSEndpoint()) })
	vpc, err := e.AddVPC("10.1.0.0/16")
	w.must(err)
	w.cut, err = e.AddSubnet(vpc, "10.1.1.0/24", "us-east-1a")
	w.must(err)
	w.group, err = e.AddSecurityGroup(vpc, "app")
	w.must(err)
	other, err := e.AddVPC("10.9.0.0/16")
	w.must(err)
	w.test, err = e.AddSubnet(other, "10.9.1.0/24", "us-east-1a")
	w.must(err)
	w.stock, err = e.AddStockImage(aws.StockImage{Name: "Windows", Windows: true})
	w.must(err)
	e.AddRole("vmimport")
	e.AddInstanceProfile("app")
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v (hint: %s)", err, transfer.HintOf(err))
	}
}

// snapshot makes a completed, empty one.
func (w *world) snapshot(parent transfer.SnapshotID, tags map[string]string) transfer.SnapshotID {
	w.t.Helper()
	in := &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(8)}
	if parent != "" {
		in.ParentSnapshotId = awssdk.String(string(parent))
	}
	for k, v := range tags {
		in.Tags = append(in.Tags, ebstypes.Tag{Key: awssdk.String(k), Value: awssdk.String(v)})
	}
	out, err := w.ebs.StartSnapshot(context.Background(), in)
	w.must(err)
	_, err = w.ebs.CompleteSnapshot(context.Background(), &ebs.CompleteSnapshotInput{SnapshotId: out.SnapshotId, ChangedBlocksCount: awssdk.Int32(0)})
	w.must(err)
	return transfer.SnapshotID(*out.SnapshotId)
}

func (w *world) point(cycle transfer.CycleID) transfer.Point {
	p := transfer.Point{Cycle: cycle, VM: vm, VMName: "app01", Complete: true}
	for n := 1; n <= 2; n++ {
		id := w.snapshot("", map[string]string{tagVersion: "1", tagVCenter: vm.VCenter, tagVM: vm.Moref, tagCycle: string(cycle), tagKind: "delta"})
		p.Disks = append(p.Disks, transfer.Snapshot{ID: id, State: transfer.Completed, VolumeGiB: 8, Label: transfer.Label{
			VM: vm, VMName: "app01", Cycle: cycle, Ordinal: n, Of: 2, DiskLabel: fmt.Sprintf("Hard disk %d", n), Kind: transfer.Delta,
			Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", CPUs: 2, MemoryMiB: 4096},
		}})
	}
	return p
}

// dying ends the program after the effect of change killAt, and answers nothing.
func (w *world) dying(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("dying", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		if w.dead {
			return middleware.InitializeOutput{}, middleware.Metadata{}, errKilled
		}
		out, md, err := next.HandleInitialize(ctx, in)
		op := awsmiddleware.GetOperationName(ctx)
		if strings.HasPrefix(op, "Describe") || strings.HasPrefix(op, "Get") {
			return out, md, err
		}
		if w.changes++; w.changes == w.killAt {
			w.dead = true
			w.kill()
			return middleware.InitializeOutput{}, md, errKilled
		}
		return out, md, err
	}), middleware.After)
}

func (w *world) launcher() *Launcher {
	w.t.Helper()
	client := ec2.NewFromConfig(w.cfg, func(o *ec2.Options) {
		o.BaseEndpoint = awssdk.String(w.e.EC2Endpoint())
		o.APIOptions = append(o.APIOptions, w.dying)
	})
	const short = 2 * time.Millisecond
	l, err := New(Config{
		EC2: client, Convert: w.convert, SSM: &SystemsManager{Region: "us-east-1", Endpoint: w.e.SSMEndpoint(), Credentials: w.cfg.Credentials, HTTP: w.cfg.HTTPClient, Poll: short},
		Save: func(_ context.Context, j Job) error {
			if w.dead {
				return errKilled
			}
			w.saved = clone(w.t, j)
			return nil
		},
		Timing: Timing{
			Poll: short, Attempt: 20 * time.Second, Pause: short, Fresh: 100 * time.Millisecond, Image: 20 * time.Second, Import: 20 * time.Second,
			Running: 20 * time.Second, Status: 20 * time.Second, Volume: 20 * time.Second, Terminate: 20 * time.Second,
		},
	})
	w.must(err)
	return l
}

func (w *world) convert(_ context.Context, p transfer.Point) (transfer.SnapshotID, ConversionReport, error) {
	if w.dead {
		return "", ConversionReport{}, errKilled
	}
	if w.conversions[p.Cycle] == "" {
		w.conversions[p.Cycle] = w.snapshot(p.Disks[0].ID, map[string]string{tagVersion: "1", tagVCenter: vm.VCenter, tagVM: vm.Moref, tagKind: "conversion", tagConverts: string(p.Cycle), tagCycle: "of-" + string(p.Cycle)})
	}
	return w.conversions[p.Cycle], ConversionReport{}, nil
}

func (w *world) source() Source {
	return Source{
		PowerOff:  func(context.Context, bool) error { w.sourceOn = false; return nil },
		PowerOn:   func(context.Context) error { w.sourceOn = true; return nil },
		FinalSync: func(context.Context) (transfer.Point, error) { return w.point("c2"), nil },
	}
}

func (w *world) job(p Purpose, flat map[string]string) Job {
	w.t.Helper()
	all := map[string]string{"subnet": w.cut, "securityGroups": w.group, "privateIP": "10.1.1.77", "test.subnet": w.test}
	for k, v := range flat {
		all[k] = v
	}
	s, err := ParseSettings(all, p)
	w.must(err)
	return NewJob(Request{VM: vm, VMName: "app01", Purpose: p, Point: w.point("c1"), Settings: s, SourceTags: map[string]string{"env": "prod"}}, time.Now())
}

// prune deletes what is completed and of a point.
func (w *world) prune(context.Context) ([]transfer.SnapshotID, error) {
	for _, s := range w.e.Snapshots() {
		if s.Tags[tagKind] != "" {
			w.must(w.e.DeleteOutOfBand(s.ID))
		}
	}
	return nil, nil
}

// costs lists what costs money, without what is of one instance.
func (w *world) costs(instance string) (out []string) {
	volumes := map[string]bool{}
	for _, i := range w.e.Instances() {
		if i.ID == instance {
			for _, v := range i.Volumes {
				volumes[v] = true
			}
		}
	}
	for _, r := range w.e.Inventory() {
		own := r.ID == instance || volumes[r.ID] || r.Kind == "network-interface" && r.State == "in-use" && instance != ""
		if !own && r.Tags[tagKind] != "delta" && r.State != "deleting" {
			out = append(out, r.Kind+" "+r.ID+" "+r.State)
		}
	}
	return out
}

func TestAgainstTheEmulator(t *testing.T) {
	for name, flat := range map[string]map[string]string{
		"byol": {"disk2.volumeType": "io2", "disk2.iops": "1000", "initializationRate": "200", "check0.ssm": "true", "check0.pause": "10ms", "iamProfile": "app"}, "aws": {"licence": "aws"}, "import": {"licence": "import", "platform": "Windows"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if name == "aws" {
				flat["stockImage"] = w.stock
			}
			test := w.job(ForTest, flat)
			w.must(w.launcher().Test(t.Context(), &test))
			if name != "aws" {
				for _, i := range w.e.Instances() {
					if i.BootMode != "uefi" {
						t.Errorf("it boots in mode %s", i.BootMode)
					}
				}
			}
			w.must(w.launcher().EndTest(t.Context(), &test))
			if left := w.costs(""); len(left) > 0 {
				t.Errorf("after the test there are %v", left)
			}
			j := w.job(ForCutover, flat)
			w.must(w.launcher().Cutover(t.Context(), &j, w.source()))
			if j.PrivateIP != "10.1.1.77" {
				t.Errorf("it is at %s", j.PrivateIP)
			}
			w.must(w.launcher().Finalize(t.Context(), &j, Ending{Prune: w.prune}))
			if left := w.costs(j.Instance); len(left) > 0 || len(w.e.Snapshots()) > 1 { // that of the stock image
				t.Errorf("after finalize there are %v, %d snapshots", left, len(w.e.Snapshots()))
			}
		})
	}
}

// TestCrashAgainstTheEmulator ends a cutover after each change that it makes in
// EC2; a fresh launcher finishes it, or reverts.
func TestCrashAgainstTheEmulator(t *testing.T) {
	for _, revert := range []bool{false, true} {
		n, every := 1, 1
		if revert {
			every = 3 // the other fake has them all
		}
		for ; ; n += every {
			w := newWorld(t)
			first := w.job(ForCutover, nil)
			w.saved = clone(t, first)
			ctx, cancel := context.WithCancel(t.Context())
			w.killAt, w.kill = n, cancel
			j := clone(t, first)
			_ = w.launcher().Cutover(ctx, j, w.source())
			cancel()
			reached := w.dead
			w.dead, w.killAt = false, 0
			j = w.saved
			if revert {
				w.must(w.launcher().Revert(t.Context(), j, w.source()))
				w.must(w.launcher().Discard(t.Context(), j))
				if !w.sourceOn || len(w.costs("")) > 0 {
					t.Fatalf("change %d: source on %v, left %v", n, w.sourceOn, w.costs(""))
				}
			} else {
				w.must(w.launcher().Cutover(t.Context(), j, w.source()))
				w.must(w.launcher().Finalize(t.Context(), j, Ending{Prune: w.prune}))
				if left := w.costs(j.Instance); len(left) > 0 {
					t.Fatalf("change %d: left %v", n, left)
				}
			}
			if !reached {
				if n < 8 {
					t.Errorf("only %d changes", n)
				}
				break
			}
		}
	}
}
