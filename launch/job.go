package launch

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"snapferry/transfer"
)

// Request is what to launch, and how.
type Request struct {
	VM       transfer.VMID  `json:"vm"`
	VMName   string         `json:"vmName"`
	Purpose  Purpose        `json:"purpose"`
	Point    transfer.Point `json:"point"` // of a cutover: the last one, then the one of the final sync
	Settings Settings       `json:"settings"`
	// SourceIPs are the IPv4 addresses of the source's NICs by device index, for
	// KeepIP; "" where one is not known.
	SourceIPs []string `json:"sourceIPs,omitempty"`
	// SourceTags are vSphere's tags (category = key) and custom attributes.
	SourceTags map[string]string `json:"sourceTags,omitempty"`
	Force      bool              `json:"force,omitempty"` // a test in the cutover's subnet, a suspect point
}

// State is how far a job is.
type State string

// The states.
const (
	StateNew       State = "new"
	StateLaunching State = "launching" // or failed while launching: see Error
	StateLaunched  State = "launched"
	StateEnding    State = "ending"
	StateEnded     State = "ended" // nothing is left of it
	StateReverting State = "reverting"
	StateReverted  State = "reverted" // instance stopped, source on
	StateFinishing State = "finalizing"
	StateFinalized State = "finalized"
)

// Job is one launch as a plain value. The caller saves it whenever the launcher
// asks (Config.Save) and hands it back after a crash; it holds no secret.
type Job struct {
	ID      JobID     `json:"id"`
	Request Request   `json:"request"`
	State   State     `json:"state"`
	Made    time.Time `json:"made"`
	Ends    time.Time `json:"ends,omitzero"` // of a test
	Error   string    `json:"error,omitempty"`
	Hint    string    `json:"hint,omitempty"`

	Records    []Record            `json:"records,omitempty"` // steps, in the order of their first start
	Boot       transfer.SnapshotID `json:"boot,omitempty"`    // what the root volume is made from
	Conversion *ConversionReport   `json:"conversion,omitempty"`
	Type       string              `json:"type,omitempty"`
	TypeWhy    string              `json:"typeWhy,omitempty"`
	Without    []string            `json:"without,omitempty"` // types that EC2 had no room for
	Image      string              `json:"image,omitempty"`
	Import     string              `json:"import,omitempty"` // task
	Instance   string              `json:"instance,omitempty"`
	PrivateIP  string              `json:"privateIP,omitempty"`
	PublicIP   string              `json:"publicIP,omitempty"`
	// Asked is when EC2 was last asked to make something: for some time after
	// that what is not seen may be there all the same.
	Asked time.Time `json:"asked,omitzero"`

	Checks   []CheckResult `json:"checks,omitempty"`
	Console  string        `json:"console,omitempty"`    // the end of its output, of a launch that failed
	Screen   []byte        `json:"screenshot,omitempty"` // JPEG, likewise
	Notes    []string      `json:"notes,omitempty"`      // worth knowing
	Left     []Resource    `json:"left,omitempty"`       // of a finalized job: what there still is
	Downtime *Downtime     `json:"downtime,omitempty"`   // of a cutover
	Events   []Event       `json:"events,omitempty"`
}

// Record is when a step was begun first, and ended.
type Record struct {
	Step    StepName  `json:"step"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Tries   int       `json:"tries"`
}

// ConversionReport is what making the guest ready for EC2 did, in its own words.
type ConversionReport struct {
	Ready   bool            `json:"ready"` // nothing needed to be changed
	Changes []string        `json:"changes,omitempty"`
	Doubts  []string        `json:"doubts,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// ConvertFunc makes the boot disk of a point ready for EC2. It returns the
// converted snapshot, or "" where the guest is ready as it is. It finds what an
// earlier call made.
type ConvertFunc func(ctx context.Context, p transfer.Point) (transfer.SnapshotID, ConversionReport, error)

// NewJob starts a job; nothing is done yet.
func NewJob(r Request, now time.Time) Job {
	j := Job{ID: NewJobID(now), Request: r, State: StateNew, Made: now}
	if r.Purpose == ForTest {
		j.Ends = now.Add(r.Settings.For)
	}
	return j
}

// Due reports whether a test is over by itself: its caller then ends it.
func (j Job) Due(now time.Time) bool {
	return j.Request.Purpose == ForTest && j.State != StateEnded && !j.Ends.IsZero() && !now.Before(j.Ends)
}

func (j *Job) record(s StepName) *Record {
	for i := range j.Records {
		if j.Records[i].Step == s {
			return &j.Records[i]
		}
	}
	return nil
}

// did reports whether a step ended.
func (j Job) did(s StepName) bool {
	r := j.record(s)
	return r != nil && !r.Ended.IsZero()
}

// began reports whether a step was ever begun.
func (j Job) began(s StepName) bool { return j.record(s) != nil }

func (j *Job) begin(s StepName, now time.Time) {
	r := j.record(s)
	if r == nil {
		j.Records = append(j.Records, Record{Step: s, Started: now})
		r = &j.Records[len(j.Records)-1]
	}
	r.Tries++
	r.Ended = time.Time{}
}

func (j *Job) end(s StepName, now time.Time) {
	if r := j.record(s); r != nil {
		r.Ended = now
	}
}

// note adds what is worth knowing, once.
func (j *Job) note(text string) {
	if !slices.Contains(j.Notes, text) {
		j.Notes = append(j.Notes, text)
	}
}

// Downtime is how long nobody served: from the call to shut the source down.
type Downtime struct {
	From     time.Time     `json:"from"`
	Launched time.Time     `json:"launched,omitzero"` // RunInstances had answered
	Until    time.Time     `json:"until,omitzero"`    // the instance had passed its checks
	ToLaunch time.Duration `json:"toLaunchNs"`
	Total    time.Duration `json:"totalNs"`
	Steps    []StepTime    `json:"steps"`
}

// StepTime is the share of one step.
type StepTime struct {
	Step StepName      `json:"step"`
	Took time.Duration `json:"tookNs"`
}

// downtime sums up the records from the power-off on. A step that was repeated
// counts from its first start, since the source was off all that time.
func (j Job) downtime() *Downtime {
	at := slices.IndexFunc(j.Records, func(r Record) bool { return r.Step == StepPowerOff })
	if at < 0 {
		return nil
	}
	d := &Downtime{From: j.Records[at].Started}
	for _, r := range j.Records[at:] {
		if r.Ended.IsZero() || r.Step.afterwards() {
			continue
		}
		d.Steps = append(d.Steps, StepTime{r.Step, r.Ended.Sub(r.Started)})
		d.Until = r.Ended
		if r.Step == StepRun {
			d.Launched = r.Ended
			d.ToLaunch = r.Ended.Sub(d.From)
		}
	}
	if !d.Until.IsZero() {
		d.Total = d.Until.Sub(d.From)
	}
	return d
}
