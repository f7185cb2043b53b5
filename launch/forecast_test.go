package launch

import (
	"strings"
	"testing"
	"time"
)

func TestForecast(t *testing.T) {
	g := newRig(t)
	j := g.job(ForCutover, nil)
	in := ForecastInput{Pending: 200 << 20, Rate: 100 << 20, Overhead: 3 * time.Second, Shutdown: 40 * time.Second}
	f := ForecastOf(j.Request, in)
	find := func(f Forecast, s StepName) ForecastStep {
		for _, step := range f.Steps {
			if step.Step == s {
				return step
			}
		}
		t.Fatalf("no step %s in %+v", s, f)
		return ForecastStep{}
	}
	if got := find(f, StepFinalSync).Takes; got != 5*time.Second {
		t.Errorf("the final sync takes %v", got)
	}
	if got := find(f, StepPowerOff).Takes; got != 40*time.Second {
		t.Errorf("the shutdown takes %v", got)
	}
	if !strings.Contains(find(f, StepConvert).Basis, "guess") {
		t.Error("a guess does not say so")
	}
	test := g.job(ForTest, nil)
	g.must(g.launcher().Test(t.Context(), &test))
	other := *clone(t, test)
	other.Request.VM.Moref = "vm-9"
	for i := range other.Records {
		other.Records[i].Ended = other.Records[i].Started.Add(time.Hour)
	}
	in.Jobs = []Job{other, test, {}}
	f = ForecastOf(j.Request, in)
	rec := test.record(StepStatus)
	if got := find(f, StepStatus); got.Takes != rec.Ended.Sub(rec.Started) || !strings.Contains(got.Basis, "the test of") {
		t.Errorf("status: %+v, measured %v", got, rec.Ended.Sub(rec.Started))
	}
	var sum time.Duration
	for _, s := range f.Steps {
		sum += s.Takes
	}
	if f.Total != sum || f.ToLaunch >= f.Total || f.ToLaunch < 45*time.Second {
		t.Errorf("to launch %v, total %v, sum %v", f.ToLaunch, f.Total, sum)
	}
	in.Rate, in.Jobs = 0, []Job{other}
	f = ForecastOf(j.Request, in)
	if len(f.Unknown) != 2 || find(f, StepStatus).Takes != time.Hour {
		t.Errorf("unknown %v, %+v", f.Unknown, find(f, StepStatus))
	}
}

func TestEstimate(t *testing.T) {
	g := newRig(t)
	j := g.job(ForTest, nil)
	e := EstimateOf(j.Request, "m6i.large", 7*24*time.Hour, time.Hour)
	if e.VolumeGiB != 16 || e.Runs < 4.3 || e.Runs > 4.4 || e.Hours != e.Runs || len(e.Unknown) == 0 || !strings.Contains(e.Text, "not known here: prices") {
		t.Errorf("%+v", e)
	}
	if want := 16 * e.Hours / 730; e.GiBMonths != want {
		t.Errorf("%v GiB-months, want %v", e.GiBMonths, want)
	}
	if e := EstimateOf(j.Request, "", 0, 2*time.Hour); e.Runs != 1 || e.Hours != 2 || !strings.HasPrefix(e.Text, "one test: 2.0 hours") {
		t.Errorf("one test costs %+v", e)
	}
}
