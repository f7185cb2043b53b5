package launch

import (
	"fmt"
	"slices"
	"time"

	"snapferry/transfer"
)

// ForecastInput is what a forecast is made from; 0 is not known.
type ForecastInput struct {
	Pending  int64         // bytes that the final sync will copy; negative is not known
	Rate     float64       // bytes/s that cycles of this VM reach
	Overhead time.Duration // of a cycle of this VM in which nothing changes
	Shutdown time.Duration // of its guest, where it was seen
	// Jobs are earlier ones of this VM and of others; those of this VM count
	// first, and the latest of those.
	Jobs []Job
}

// Forecast is how long a cutover will take nobody can serve.
type Forecast struct {
	ToLaunch time.Duration  `json:"toLaunchNs"` // from the shutdown to the launch call
	Total    time.Duration  `json:"totalNs"`    // to the end of the checks
	Steps    []ForecastStep `json:"steps"`
	Unknown  []string       `json:"unknown,omitempty"` // what is not in it
}

// ForecastStep is the share of one step.
type ForecastStep struct {
	Step  StepName      `json:"step"`
	Takes time.Duration `json:"takesNs"`
	Basis string        `json:"basis"` // where the figure is from
}

// guesses are figures for steps that nobody has measured yet: the project's own
// of conversions (a minute or two on two cores without virtualisation), AWS's
// usual ones for the rest.
var guesses = map[StepName]time.Duration{
	StepPowerOff: 2 * time.Minute, StepFinalSync: time.Minute, StepMark: time.Second, StepConvert: 2 * time.Minute,
	StepImport: 45 * time.Minute, StepImage: 30 * time.Second, StepRun: 5 * time.Second, StepRunning: 30 * time.Second,
	StepRoot: 2 * time.Minute, StepData: time.Minute, StepTag: 2 * time.Second, StepStatus: 4 * time.Minute,
	StepChecks: time.Minute, StepProve: time.Second,
}

// ForecastOf is pure. It adds up what each step took at earlier launches.
func ForecastOf(req Request, in ForecastInput) Forecast {
	var f Forecast
	launched := false
	for _, s := range Plan(req, World{}) {
		guess, counts := guesses[s.Name]
		if !counts { // before the shutdown, or after the end
			continue
		}
		step := ForecastStep{Step: s.Name, Takes: guess, Basis: "a guess: it was never measured"}
		if took, of, ok := measured(req.VM, s.Name, in.Jobs); ok {
			step.Takes, step.Basis = took, of
		}
		switch s.Name {
		case StepConvert:
			if req.Settings.AsIs {
				step.Takes, step.Basis = 0, "the guest is taken as it is"
			}
		case StepPowerOff:
			if in.Shutdown > 0 {
				step.Takes, step.Basis = in.Shutdown, "the guest's last shutdown"
			}
		case StepFinalSync:
			step = finalSync(step, in)
			switch {
			case in.Pending < 0:
				f.Unknown = append(f.Unknown, "how long the copying takes of what the source has written since the sync before")
			case in.Rate <= 0:
				f.Unknown = append(f.Unknown, fmt.Sprintf("how long %d pending bytes take: no cycle was measured", in.Pending))
			}
		}
		f.Steps = append(f.Steps, step)
		f.Total += step.Takes
		if !launched {
			f.ToLaunch += step.Takes
		}
		launched = launched || s.Name == StepRun
	}
	f.Unknown = append(f.Unknown, "how long the services in the guest take to start")
	return f
}

func finalSync(step ForecastStep, in ForecastInput) ForecastStep {
	if in.Overhead > 0 {
		step.Takes, step.Basis = in.Overhead, "a cycle of this VM"
	}
	if in.Rate > 0 && in.Pending >= 0 {
		copying := time.Duration(float64(in.Pending) / in.Rate * float64(time.Second))
		step.Takes += copying
		step.Basis = fmt.Sprintf("%s, and %d pending bytes at %.0f bytes/s", step.Basis, in.Pending, in.Rate)
	}
	return step
}

// measured is what a step took last at this VM, else the median of others.
func measured(vm transfer.VMID, name StepName, jobs []Job) (took time.Duration, of string, ok bool) {
	var others []time.Duration
	var latest time.Time
	for _, j := range jobs {
		rec := j.record(name)
		if rec == nil || rec.Ended.IsZero() || rec.Tries != 1 { // repeats hold waiting times
			continue
		}
		d := rec.Ended.Sub(rec.Started)
		if j.Request.VM != vm {
			others = append(others, d)
		} else if rec.Ended.After(latest) {
			latest, took, of, ok = rec.Ended, d, fmt.Sprintf("the %s of %s", j.Request.Purpose, rec.Ended.UTC().Format(time.RFC3339)), true
		}
	}
	if ok || len(others) == 0 {
		return took, of, ok
	}
	slices.Sort(others)
	return others[len(others)/2], fmt.Sprintf("the median of %d launches of other VMs", len(others)), true
}

// Estimate is what a test that is scheduled costs, as far as that is known.
type Estimate struct {
	Runs         float64  `json:"runsPerMonth"`
	InstanceType string   `json:"instanceType"`
	Hours        float64  `json:"instanceHoursPerMonth"`
	VolumeGiB    int64    `json:"volumeGiB"`
	GiBMonths    float64  `json:"volumeGiBMonths"` // per month
	Requests     float64  `json:"requestsUSDPerMonth"`
	Unknown      []string `json:"unknown"`
	Text         string   `json:"text"`
}

const (
	month = 730 * time.Hour // as AWS counts
	// Prices of EBS direct, us-east-1 (AWS): of 1,000 puts and gets.
	usdPut, usdGet = 0.006 / 1000, 0.003 / 1000
	// A conversion, of the project's own measurements: at most 100 blocks put,
	// and 256 read.
	convPuts, convGets = 100, 256
)

// EstimateOf is the cost of a test every so often (0: of one), that runs for so
// long. It is pure; EC2 has no prices, so that those of instances and volumes are named as
// what is not known.
func EstimateOf(req Request, instanceType string, every, runs time.Duration) Estimate {
	e := Estimate{InstanceType: instanceType, Unknown: []string{
		"the hourly price of " + orUnknown(instanceType) + ", with the licence where AWS bills one",
		"the price of a GiB-month, and of IOPS, throughput and initialization rate where they are set",
		"data transfer",
	}}
	what := "one test"
	e.Runs = 1
	if every > 0 {
		e.Runs = float64(month) / float64(every)
		what = fmt.Sprintf("%.1f tests a month", e.Runs)
	}
	for _, d := range req.Point.Disks {
		e.VolumeGiB += d.VolumeGiB
	}
	e.Hours = e.Runs * runs.Hours()
	e.GiBMonths = float64(e.VolumeGiB) * e.Hours / month.Hours()
	e.Requests = e.Runs * (convPuts*usdPut + convGets*usdGet)
	e.Text = fmt.Sprintf("%s: %.1f hours of %s, %.2f GiB-months of volumes (%d GiB for that time), %.2f USD of block requests; not known here: prices of instance and volumes",
		what, e.Hours, orUnknown(instanceType), e.GiBMonths, e.VolumeGiB, e.Requests)
	return e
}

func orUnknown(t string) string {
	if t == "" {
		return "an instance type that is not chosen yet"
	}
	return t
}
