package torture_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"snapferry/schedule"
	"snapferry/test/aws"
	"snapferry/test/database"
	"snapferry/test/fault"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

// fleet is two appliances, each the real program as a service, on one
// PostgreSQL.
type fleet struct {
	*life
	server  *database.Server
	members []*member

	mu     sync.Mutex
	double string // a moment at which two of our VM snapshots were on one VM
}

// member is an appliance: its settings, and the process while it runs.
type member struct {
	id, config string
	cmd        *exec.Cmd
	log        bytes.Buffer
	ended      chan struct{}
}

// takeover is how long a run may take in which an appliance dies: a minute
// until another has it, and the cycle itself, on a loaded machine.
const takeover = 3 * time.Minute

// TestFleet: appliances are killed, frozen and thawed, their database restarts,
// they are upgraded one after the other, always while a cycle runs. Each time
// the run is brought to its end by somebody, no VM is ever frozen twice at once,
// and every recovery point is what was frozen.
func TestFleet(t *testing.T) {
	if os.Getenv("SNAPFERRY_FLEET") == "" && !long {
		t.Skip("it takes minutes: set SNAPFERRY_FLEET=1 or run make fleet")
	}
	f := newFleet(t)
	watched := make(chan struct{})
	stop := make(chan struct{})
	go func() { defer close(watched); f.watch(stop) }()
	for _, m := range f.members {
		f.start(m)
	}
	for _, vm := range f.vms {
		f.until(vm.Name()+" to be in the inventory", time.Minute, func() bool { _, err := f.ask(f.members[1], "status", vm.Name()); return err == nil })
		f.synced(vm.Name(), func(*member) {})
	}
	for _, e := range []struct {
		name string
		do   func(*member)
	}{
		{"kill -9", f.killed},
		{"SIGTERM and a new start", f.upgraded},
		{"the database restarts", func(*member) { f.server.Restart(t) }},
		{"frozen and thawed", f.frozenAndThawed},
	} {
		began := time.Now()
		f.synced(f.vms[0].Name(), e.do)
		t.Logf("%s: the run came to its end after %s", e.name, time.Since(began).Round(time.Second))
		f.invariants()
	}
	for _, m := range f.members {
		f.stop(m)
	}
	close(stop)
	<-watched
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.double != "" {
		t.Error(f.double)
	}
	f.nothingLeft()
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dir := t.TempDir()
	f := &fleet{server: database.Cluster(t), life: &life{
		t: t, bin: build(t), led: newLedger(1), seed: 1, rng: rand.New(rand.NewPCG(1, 11)), dir: dir, end: time.Now().Add(time.Hour),
		vcenter: fault.New(1), aws: fault.New(2), foreign: map[string]bool{}, compared: map[string]bool{}, looked: map[string]time.Time{}, wrong: map[string]bool{},
	}}
	var err error
	// Slow enough for a cycle to be met in the middle.
	f.lab, err = lab.Start(lab.Options{Dir: dir, KeepFrozen: true, VCenter: vcenter.Options{Faults: f.vcenter},
		AWS: aws.Options{Faults: f.aws, Latency: 200 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.lab.Close)
	f.env = environment(dir, f.lab.Env())
	for i := range 3 {
		vm, err := f.lab.AddVM(vcenter.VMSpec{Name: fmt.Sprintf("app%d", i+1), CBT: true, Disks: []vcenter.DiskSpec{{Size: 64 << 20}, {Size: 32 << 20}}})
		if err != nil {
			t.Fatal(err)
		}
		f.vms = append(f.vms, vm)
	}
	second, err := f.lab.VCenter.AddApplianceVM(vcenter.VMSpec{Name: "appliance-b", Host: 1})
	if err != nil {
		t.Fatal(err)
	}
	sysfs, dev := f.lab.VCenter.GuestDirs(second)
	where := f.server.Database(t)
	f.members = []*member{f.member("a", where, nil), f.member("b", where, map[string]any{"id": "lab-b", "vm": second.Moref(), "sysfsDir": sysfs, "devDir": dev})}
	return f
}

// member writes the settings of an appliance; appliance is nil for the lab's
// own.
func (f *fleet) member(id, where string, appliance map[string]any) *member {
	base, err := os.ReadFile(f.lab.Settings())
	var all map[string]any
	if err == nil {
		err = yaml.Unmarshal(base, &all)
	}
	if appliance != nil {
		all["appliance"] = appliance
	}
	all["stateDir"] = filepath.Join(f.dir, "state-"+id)
	all["database"] = f.database(id, where)
	all["server"] = map[string]any{"listen": "none"}
	all["transfer"] = map[string]any{"puts": 4} // a cycle takes some seconds
	text, merr := yaml.Marshal(all)
	m := &member{id: id, config: filepath.Join(f.dir, "service-"+id+".yaml")}
	if err = errors.Join(err, merr, os.WriteFile(m.config, text, 0o600)); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// database is where the cluster is, its password apart.
func (f *fleet) database(id, text string) map[string]any {
	u, err := url.Parse(text)
	if err != nil {
		f.t.Fatal(err)
	}
	db := map[string]any{}
	if password, has := u.User.Password(); has {
		u.User = url.User(u.User.Username())
		path := filepath.Join(f.dir, "password-"+id)
		if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
			f.t.Fatal(err)
		}
		db["passwordFile"] = path
	}
	db["url"] = u.String()
	return db
}

func (f *fleet) start(m *member) {
	m.cmd = exec.Command(f.bin.path, "run", "--config", m.config)
	m.cmd.Env, m.cmd.Stdout, m.cmd.Stderr = f.env, &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	m.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(m.cmd, m.ended)
	f.t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-m.ended
		if f.t.Failed() {
			f.t.Logf("appliance %s:\n%s", m.id, short(m.log.String()))
		}
	})
	f.until("appliance "+m.id+" to answer", time.Minute, func() bool {
		select {
		case <-m.ended:
			f.t.Fatalf("appliance %s ended at its start", m.id)
		default:
		}
		c, err := net.Dial("unix", filepath.Join(f.dir, "state-"+m.id, "snapferry.sock"))
		if err == nil {
			_ = c.Close() // only asked whether it answers
		}
		return err == nil
	})
}

// ask runs a verb and reads its document.
func (f *fleet) ask(m *member, args ...string) ([]byte, error) {
	cmd := exec.Command(f.bin.path, append(args, "--config", m.config)...)
	cmd.Env = f.env
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 { // an alarm is open
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%v: %w: %s%s", args, err, out, stderrOf(err))
	}
	return out, err
}

func stderrOf(err error) []byte {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}

func (f *fleet) until(what string, most time.Duration, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(most); !is(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("waited for %s for %s", what, most)
		}
	}
}

// runs are the runs of the fleet, by whoever answers.
func (f *fleet) runs(args ...string) (list []schedule.Run) {
	for _, m := range f.members {
		out, err := f.ask(m, append([]string{"runs", "--json"}, args...)...)
		var doc struct {
			Runs []schedule.Run `json:"runs"`
		}
		if err == nil && json.Unmarshal(out, &doc) == nil {
			return doc.Runs
		}
	}
	return nil
}

// synced lets the guest write, wants a cycle, does something to the appliance
// that runs it while it copies, and waits until the cycle has made a point.
func (f *fleet) synced(vm string, event func(*member)) {
	f.t.Helper()
	for i := range f.vms {
		if f.vms[i].Name() == vm {
			for _, d := range f.vms[i].Disks() {
				f.fill(d)
			}
		}
	}
	before := f.runs(vm, "--limit", "1")
	client := exec.Command(f.bin.path, "sync", vm, "--progress", "none", "--config", f.members[1].config)
	client.Env = f.env
	if err := client.Start(); err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = client.Process.Kill(); _ = client.Wait() }()
	var run schedule.Run
	f.until("the run of "+vm+" to copy", takeover, func() bool {
		for _, r := range f.runs(vm, "--limit", "1") {
			run = r
		}
		fresh := len(before) == 0 || run.ID != before[0].ID
		return fresh && (run.State.Ended() || run.Report.Step == "copy")
	})
	for _, m := range f.members {
		if (run.Appliance == "lab-b") == (m.id == "b") && !run.State.Ended() {
			event(m)
		}
	}
	f.until(fmt.Sprintf("run %d of %s to end", run.ID, vm), takeover, func() bool {
		for _, r := range f.runs(vm, "--limit", "10") {
			if r.ID == run.ID {
				run = r
			}
		}
		return run.State.Ended()
	})
	if run.State != schedule.RunDone {
		f.t.Fatalf("run %d of %s ended as %s: %s", run.ID, vm, run.State, run.Error)
	}
	f.t.Logf("run %d of %s: appliance %s, attempt %d", run.ID, vm, run.Appliance, run.Epoch)
}

// fill writes all over a disk.
func (f *fleet) fill(d *vcenter.Disk) {
	b := make([]byte, d.Size())
	for i := 0; i < len(b); i += 4096 {
		b[i] = byte(f.rng.Uint32())
	}
	if _, err := d.WriteAt(b, 0); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) killed(m *member) {
	_ = m.cmd.Process.Kill()
	<-m.ended
	time.Sleep(5 * time.Second) // a machine that boots
	f.start(m)
}

func (f *fleet) upgraded(m *member) {
	f.stop(m)
	f.start(m)
}

// stop ends an appliance in order.
func (f *fleet) stop(m *member) {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.ended:
	case <-time.After(time.Minute):
		f.t.Fatalf("appliance %s does not end:\n%s", m.id, short(m.log.String()))
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 0 {
		f.t.Errorf("appliance %s ended with %d:\n%s", m.id, code, short(m.log.String()))
	}
}

// frozenAndThawed: another takes over meanwhile, and the thawed one ends
// itself.
func (f *fleet) frozenAndThawed(m *member) {
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(70 * time.Second)
	_ = m.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-m.ended:
		if code := m.cmd.ProcessState.ExitCode(); code != 3 {
			f.t.Errorf("the thawed appliance ended with %d:\n%s", code, short(m.log.String()))
		}
	case <-time.After(time.Minute):
		f.t.Errorf("the thawed appliance %s goes on:\n%s", m.id, short(m.log.String()))
	}
	f.start(m)
}

// watch looks for a VM that is frozen twice at once.
func (f *fleet) watch(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		for _, vm := range f.lab.VCenter.State().VMs {
			var names []string
			for _, s := range vm.Snapshots {
				if strings.HasPrefix(s.Name, lab.Mark) {
					names = append(names, s.Name)
				}
			}
			if len(names) > 1 {
				f.mu.Lock()
				f.double = fmt.Sprintf("%s was frozen twice at once: %v", vm.Name, names)
				f.mu.Unlock()
			}
		}
	}
}

// nothingLeft: both appliances have ended.
func (f *fleet) nothingLeft() {
	for _, vm := range f.lab.VCenter.State().VMs {
		for _, s := range vm.Snapshots {
			f.t.Errorf("%s has the VM snapshot %s", vm.Name, s.Name)
		}
	}
	f.sources()
	if n := len(f.completePoints()); n < len(f.vms)+4 {
		f.t.Errorf("%d recovery points", n)
	}
}
