package bench

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

const (
	cutoverDisk    = 1 << 30
	cutoverPending = 200 << 20
)

// ferry is the program against a lab with one VM.
type ferry struct {
	b        *testing.B
	path     string
	env      []string
	settings string
	subnet   string
	vm       *vcenter.VM
	rng      *rand.ChaCha8
}

func newFerry(b *testing.B) *ferry {
	b.Helper()
	dir := b.TempDir()
	f := &ferry{b: b, path: filepath.Join(dir, "snapferry"), rng: rand.NewChaCha8(sha256.Sum256([]byte("cutover")))}
	if out, err := exec.Command("go", "build", "-o", f.path, "snapferry/cmd/snapferry").CombinedOutput(); err != nil {
		b.Fatalf("build snapferry: %v\n%s", err, out)
	}
	l, err := lab.Start(lab.Options{Dir: dir, AWS: aws.Options{MaxPending: 10_000}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Close)
	f.settings, f.env = l.Settings(), append([]string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, l.Env()...)
	for _, kv := range l.Env() { // for the bare loop
		k, v, _ := strings.Cut(kv, "=")
		b.Setenv(k, v)
	}
	if f.vm, err = l.AddVM(vcenter.VMSpec{Name: "app1", CBT: true, Disks: []vcenter.DiskSpec{{Size: cutoverDisk}}}); err != nil {
		b.Fatal(err)
	}
	vpc, err := l.AWS.AddVPC("10.1.0.0/16")
	if err == nil {
		f.subnet, err = l.AWS.AddSubnet(vpc, "10.1.1.0/24", "us-east-1a")
	}
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// downtime is that of a cutover, as its JSON has it.
type downtime struct {
	ToLaunch time.Duration `json:"toLaunchNs"`
	Total    time.Duration `json:"totalNs"`
	Steps    []stepTime    `json:"steps"`
}

type stepTime struct {
	Step string        `json:"step"`
	Took time.Duration `json:"tookNs"`
}

func (d downtime) step(name string) (took time.Duration) {
	for _, s := range d.Steps {
		if s.Step == name {
			took = s.Took
		}
	}
	return took
}

// run runs a verb, and returns the downtime that it tells, if any.
func (f *ferry) run(verb string, args ...string) downtime {
	f.b.Helper()
	args = append([]string{verb, "--config", f.settings, "--json", "--progress", "none"}, args...)
	cmd := exec.Command(f.path, args...)
	cmd.Env = f.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		f.b.Fatalf("%v: %v\n%s\n%s", args, err, out, stderr.String())
	}
	var doc struct {
		Launches []struct{ Downtime downtime }
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		f.b.Fatalf("%v: %v", args, err)
	}
	if len(doc.Launches) == 0 {
		return downtime{}
	}
	return doc.Launches[0].Downtime
}

// write writes so many random bytes to the running guest's disk.
func (f *ferry) write(off, n int64) {
	f.b.Helper()
	const piece = 8 << 20
	buf := make([]byte, piece)
	for end := off + n; off < end; off += piece {
		if _, err := io.ReadFull(f.rng, buf); err != nil {
			f.b.Fatal(err)
		}
		if _, err := f.vm.Disks()[0].WriteAt(buf, off); err != nil {
			f.b.Fatal(err)
		}
	}
}

// cutover writes what is pending, cuts over and goes back.
func (f *ferry) cutover(more ...string) downtime {
	f.b.Helper()
	f.write(300<<20, cutoverPending)
	d := f.run("cutover", append([]string{"app1", "--yes", "--set", "subnet=" + f.subnet, "--set", "convert=no"}, more...)...)
	if d.ToLaunch <= 0 || d.step("final-sync") <= 0 {
		f.b.Fatalf("a downtime of %v to the launch call, by step %v", d.ToLaunch, d.Steps)
	}
	f.run("revert", "app1", "--yes", "--discard")
	return d
}

// BenchmarkCutover cuts a VM of one disk over that has 200 MiB to replicate when
// its guest is shut down: without the replication before that, so that all of it
// is downtime, and with it. In turns with both a bare loop puts random blocks
// into the same emulator. The guest is taken as it is, and shuts down at once.
func BenchmarkCutover(b *testing.B) {
	f := newFerry(b)
	f.write(0, 256<<20)
	f.run("sync", "app1")
	file, client := randomFile(b, diskBlocks), bareClient(b)
	bareLoop(b, client, file) // warm
	var skipped, presynced []downtime
	var bare time.Duration
	b.ResetTimer()
	for b.Loop() {
		skipped = append(skipped, f.cutover("--skip-pre-sync"))
		presynced = append(presynced, f.cutover())
		t := time.Now()
		bareLoop(b, client, file)
		bare += time.Since(t)
	}
	n := time.Duration(len(skipped))
	a, p := mean(skipped), mean(presynced)
	rate := func(bytes int64, d time.Duration) float64 { return float64(bytes) / 1e6 / d.Seconds() }
	ours, theirs := rate(cutoverPending, a.step("final-sync")), rate(diskBlocks*512<<10, bare/n)
	b.ReportMetric(a.ToLaunch.Seconds(), "to-launch-s")
	b.ReportMetric(p.ToLaunch.Seconds(), "presynced-to-launch-s")
	b.ReportMetric(a.Total.Seconds(), "downtime-s")
	b.ReportMetric(p.Total.Seconds(), "presynced-downtime-s")
	b.ReportMetric(ours, "final-sync-MB/s")
	b.ReportMetric(theirs, "bare-put-MB/s")
	b.ReportMetric(ours/theirs, "ratio-to-bare-put")
	b.Logf("200 MiB pending at the shutdown: %s", byStep(a))
	b.Logf("replicated before: %s", byStep(p))
}

// mean is the mean of each step.
func mean(all []downtime) downtime {
	var m downtime
	for _, d := range all {
		m.ToLaunch, m.Total = m.ToLaunch+d.ToLaunch, m.Total+d.Total
		for _, s := range d.Steps {
			i := slices.IndexFunc(m.Steps, func(t stepTime) bool { return t.Step == s.Step })
			if i < 0 {
				m.Steps = append(m.Steps, s)
			} else {
				m.Steps[i].Took += s.Took
			}
		}
	}
	n := time.Duration(len(all))
	m.ToLaunch, m.Total = m.ToLaunch/n, m.Total/n
	for i := range m.Steps {
		m.Steps[i].Took /= n
	}
	return m
}

// byStep is a downtime in a line.
func byStep(d downtime) string {
	var steps []string
	for _, s := range d.Steps {
		steps = append(steps, fmt.Sprintf("%s %v", s.Step, s.Took.Round(time.Millisecond)))
	}
	return fmt.Sprintf("%v to the launch call, %v to the last step: %s", d.ToLaunch.Round(time.Millisecond), d.Total.Round(time.Millisecond), strings.Join(steps, ", "))
}
