package web

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// waveLaunch is how a wave stands in what concerns launches.
type waveLaunch struct {
	Steps  []waveStep
	Offers []waveOffer
	Rows   []memberLaunch // members of which something is or was launched
}

// waveStep is how many members stand where.
type waveStep struct {
	Word  word
	Count int
}

// waveOffer is an action on the whole wave, and who keeps it from beginning.
type waveOffer struct {
	launchOffer
	Warn string
}

// memberLaunch is a member with what is under way or stands in AWS.
type memberLaunch struct {
	VM     transfer.VMID
	Name   string
	Life   word
	Active *schedule.LaunchRun
	Failed *schedule.LaunchRun
	Job    *schedule.LaunchJob // the newest that is not over
}

// waveActions are what can be asked of a whole wave. One member that cannot
// keeps all from beginning, so that they are named beforehand.
var waveActions = []launchOffer{
	{"launch-test", "Launch tests…", ""}, {"launch-test-done", "End tests…", ""}, {"launch-cutover", "Cut over…", "primary"},
	{"launch-finalize", "Finalize…", "danger-quiet"}, {"launch-revert", "Revert…", "danger-quiet"}, {"launch-cancel", "Cancel launch runs…", ""},
}

// membersNamed are spelled out where members keep a wave from something.
const membersNamed = 5

// waveOffers are the actions that some member can do; can has those of each,
// by its dialog.
func waveOffers(vms []schedule.VMStatus, can []map[string]bool) []waveOffer {
	stands := func(i int) string {
		if can[i]["launch-cancel"] {
			return vms[i].Name + " has a launch run under way"
		}
		return vms[i].Name + " is " + strings.ToLower(lifeWords(vms[i].Lifecycle).Label)
	}
	var out []waveOffer
	for _, a := range waveActions {
		var not []string
		for i := range vms {
			if !can[i][a.Dialog] {
				not = append(not, stands(i))
			}
		}
		n := len(not)
		if n == len(vms) {
			continue // no member can: the button would say nothing
		}
		o := waveOffer{launchOffer: a}
		if n > 0 && a.Dialog != "launch-cancel" {
			more := ""
			if n > membersNamed {
				not, more = not[:membersNamed], fmt.Sprintf(", and %d more", n-membersNamed)
			}
			o.Warn = fmt.Sprintf("%d of %d VMs cannot, and would keep all from beginning: %s%s.", n, len(vms), strings.Join(not, ", "), more)
		}
		out = append(out, o)
	}
	return out
}

func (s *server) waveLaunch(ctx context.Context, wave string, vms []schedule.VMStatus) (*waveLaunch, error) {
	if s.Launches == nil || len(vms) == 0 {
		return nil, nil
	}
	// A wave's members may be launched one by one too: the wave's own runs are
	// not all.
	runs, err := s.Launches.LaunchRuns(ctx, schedule.LaunchQuery{Active: true, Limit: 500})
	if errors.Is(err, schedule.ErrConflict) {
		return nil, nil // a service that launches nothing
	}
	if err != nil {
		return nil, err
	}
	own, err := s.Launches.LaunchRuns(ctx, schedule.LaunchQuery{Wave: wave, Limit: 500})
	if err != nil {
		return nil, err
	}
	jobs, err := s.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{Open: true, Limit: 1000})
	if err != nil {
		return nil, err
	}
	p := &waveLaunch{}
	count, can := map[schedule.Lifecycle]int{}, make([]map[string]bool, len(vms))
	byVM := map[transfer.VMID][]schedule.LaunchJob{}
	for _, j := range jobs {
		byVM[j.VM] = append(byVM[j.VM], j)
	}
	for i, v := range vms {
		count[v.Lifecycle]++
		m := memberLaunch{VM: v.ID, Name: v.Name, Life: lifeWords(v.Lifecycle), Active: runOf(v.ID, runs)}
		if open := byVM[v.ID]; len(open) > 0 {
			m.Job = &open[0]
		}
		if m.Active == nil {
			if last := runOf(v.ID, own); last != nil && last.State == schedule.RunFailed {
				m.Failed = last
			}
		}
		can[i] = map[string]bool{}
		for _, o := range launchOffers(v.Lifecycle, m.Active != nil, byVM[v.ID]) {
			can[i][o.Dialog] = true
		}
		if m.Active != nil || m.Failed != nil || m.Job != nil {
			p.Rows = append(p.Rows, m)
		}
	}
	for _, l := range schedule.Lifecycles() {
		p.Steps = append(p.Steps, waveStep{lifeWords(l), count[l]})
	}
	p.Offers = waveOffers(vms, can)
	return p, nil
}

// runOf is the newest run of a VM among runs, which are newest first.
func runOf(id transfer.VMID, runs []schedule.LaunchRun) *schedule.LaunchRun {
	for i := range runs {
		if runs[i].VM == id {
			return &runs[i]
		}
	}
	return nil
}
