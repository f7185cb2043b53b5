package transfer

import (
	"fmt"
	"sync"
	"time"
)

// Step is where a cycle is.
type Step string

// The steps of a cycle, in order. Crash tests and the job engine know them by
// these names.
const (
	StepInspect Step = "inspect"
	StepFreeze  Step = "freeze"
	StepPlan    Step = "plan"
	StepCopy    Step = "copy"
	StepDetach  Step = "detach"
	StepRelease Step = "release" // runs beside seal
	StepSeal    Step = "seal"
	StepCommit  Step = "commit"
	StepDone    Step = "done"
)

// Outcome is how a cycle ended.
type Outcome string

// The outcomes.
const (
	OutcomePoint     Outcome = "point"     // a new recovery point
	OutcomeConfirmed Outcome = "confirmed" // nothing changed; the last point holds at the new instant
	OutcomeFailed    Outcome = "failed"
)

// Calls counts requests to the two services.
type Calls struct {
	VCenter int64 `json:"vcenter"`
	AWS     int64 `json:"aws"`
}

// Sub is what was counted since before.
func (c Calls) Sub(before Calls) Calls {
	return Calls{VCenter: c.VCenter - before.VCenter, AWS: c.AWS - before.AWS}
}

// Report is a cycle as a plain value. Screen, API and metrics render it; none
// of them computes.
type Report struct {
	VM        VMID          `json:"vm"`
	VMName    string        `json:"vmName"`
	Cycle     CycleID       `json:"cycle"`
	Step      Step          `json:"step"`
	Outcome   Outcome       `json:"outcome,omitempty"`
	Started   time.Time     `json:"started"`
	Frozen    time.Time     `json:"frozen"`             // zero before the freeze
	Ended     time.Time     `json:"ended"`              // zero while it runs
	Snapshot  string        `json:"snapshot,omitempty"` // the VM snapshot while it exists: moref
	Quiesced  bool          `json:"quiesced"`
	Tracking  string        `json:"tracking,omitempty"`
	Point     CycleID       `json:"point,omitempty"` // the point made or confirmed
	Disks     []DiskReport  `json:"disks"`
	Calls     Calls         `json:"calls"`
	FrozenFor time.Duration `json:"frozenForNs"` // how long the VM snapshot existed
	// What vCenter and EC2 took of it; of the last freeze where there were
	// several, 0 for what did not come to its end.
	FreezeTook  time.Duration `json:"freezeTookNs"`  // making the VM snapshot
	ReleaseTook time.Duration `json:"releaseTookNs"` // removing and consolidating it
	SealTook    time.Duration `json:"sealTookNs"`    // until EC2 called all disks completed
	// Alarms are things that went wrong without spoiling the cycle, above all
	// what could not be cleaned up.
	Alarms []string `json:"alarms,omitempty"`
	// Notes are things worth knowing that call for nothing.
	Notes []string `json:"notes,omitempty"`
	Error string   `json:"error,omitempty"`
	Hint  string   `json:"hint,omitempty"`
}

// Took is how long the cycle ran, or has run at now.
func (r Report) Took(now time.Time) time.Duration {
	if r.Ended.IsZero() {
		return now.Sub(r.Started)
	}
	return r.Ended.Sub(r.Started)
}

// DiskReport is one disk in a cycle. Bytes are of the disk, blocks of 512 KiB.
type DiskReport struct {
	Disk      DiskID       `json:"disk"`
	Label     string       `json:"label"`
	Size      int64        `json:"size"`
	Kind      PlanKind     `json:"kind,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Areas     int64        `json:"areas"`     // areas that vSphere reported
	AreaBytes int64        `json:"areaBytes"` // their sum
	Blocks    int64        `json:"blocks"`    // to look at
	Done      int64        `json:"done"`      // looked at, and put where need be
	BytesRead int64        `json:"bytesRead"`
	Put       int64        `json:"put"`             // blocks written to AWS
	Identical int64        `json:"identical"`       // blocks skipped: AWS has these bytes
	Zero      int64        `json:"zero"`            // blocks of zeros left absent
	Resumed   int64        `json:"resumed"`         // blocks that the draft held already
	Audit     *AuditReport `json:"audit,omitempty"` // nil where none was due
	Parent    SnapshotID   `json:"parent,omitempty"`
	Snapshot  SnapshotID   `json:"snapshot,omitempty"` // of the draft, then sealed
	Sealed    bool         `json:"sealed"`
	Kept      bool         `json:"kept"`     // the draft stays: the next cycle goes on with it
	Attached  bool         `json:"attached"` // the frozen disk is open now

	CopyStarted time.Time `json:"copyStarted"` // zero before
	CopyEnded   time.Time `json:"copyEnded"`   // zero before
	// Rate is disk bytes looked at per second of copying; ETA what is left at
	// that rate. Both are filled in by Progress.Report.
	Rate float64       `json:"rate"`
	ETA  time.Duration `json:"etaNs"`
}

// Progress is the report of a running cycle. One cycle writes it, anybody
// reads it.
type Progress struct {
	now   func() time.Time
	calls func() Calls

	mu     sync.Mutex
	r      Report
	before Calls
	onStep func(Step)
}

// NewProgress returns an empty progress. calls may be nil.
func NewProgress(now func() time.Time, calls func() Calls) *Progress {
	if calls == nil {
		calls = func() Calls { return Calls{} }
	}
	return &Progress{now: now, calls: calls, before: calls(), r: Report{Started: now(), Step: StepInspect}}
}

// OnStep calls f whenever a step begins, before it does. Two calls may be under
// way at once: the release runs beside the seal, and must not wait where that
// waits. Set it before the cycle starts.
func (p *Progress) OnStep(f func(Step)) { p.onStep = f }

// Report returns the state of now.
func (p *Progress) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.r
	r.Disks = append([]DiskReport(nil), p.r.Disks...)
	r.Alarms = append([]string(nil), p.r.Alarms...)
	r.Notes = append([]string(nil), p.r.Notes...)
	if r.Ended.IsZero() {
		r.Calls = p.calls().Sub(p.before)
	}
	for i := range r.Disks {
		r.Disks[i].estimate(p.now())
		if a := r.Disks[i].Audit; a != nil {
			copied := *a
			r.Disks[i].Audit = &copied
		}
	}
	return r
}

func (d *DiskReport) estimate(now time.Time) {
	if d.CopyStarted.IsZero() {
		return
	}
	end := d.CopyEnded
	if end.IsZero() {
		end = now
	}
	seconds := end.Sub(d.CopyStarted).Seconds()
	if seconds <= 0 || d.Done == 0 {
		return
	}
	d.Rate = float64(d.Done*BlockSize) / seconds
	if d.CopyEnded.IsZero() {
		d.ETA = time.Duration(float64((d.Blocks-d.Done)*BlockSize) / d.Rate * float64(time.Second))
	}
}

func (p *Progress) update(f func(*Report)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.r)
}

func (p *Progress) disk(i int, f func(*DiskReport)) {
	p.update(func(r *Report) { f(&r.Disks[i]) })
}

func (p *Progress) step(s Step) {
	p.update(func(r *Report) { r.Step = s })
	if p.onStep != nil {
		p.onStep(s)
	}
}

func (p *Progress) alarmf(format string, args ...any) {
	p.update(func(r *Report) { r.Alarms = append(r.Alarms, fmt.Sprintf(format, args...)) })
}

func (p *Progress) notef(format string, args ...any) {
	p.update(func(r *Report) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) })
}

func (p *Progress) end(err error) {
	calls := p.calls().Sub(p.before)
	p.update(func(r *Report) {
		r.Ended, r.Calls, r.Step = p.now(), calls, StepDone
		if err != nil {
			r.Outcome, r.Error, r.Hint = OutcomeFailed, err.Error(), HintOf(err)
		}
	})
}
