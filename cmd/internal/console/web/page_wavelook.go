package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/schedule"
)

const (
	// wavePreviews are made side by side: each asks AWS and vCenter a dozen times.
	wavePreviews = 4
	// waveLookTime is below the two minutes in which a page must be answered.
	waveLookTime = 100 * time.Second
)

// wavePreview is the view of the dry runs of a wave's members.
type wavePreview struct {
	Action  schedule.LaunchAction
	Failed  string
	Rows    []memberPreview
	Refused int // of Rows
	Unseen  int // members that time was too short for
	// The wave is down as long as the member that is down longest, where the
	// limits let all go at once.
	ToLaunch, Downtime schedule.Duration
	Partly             bool // some member has no forecast
}

// memberPreview is one member's.
type memberPreview struct {
	VM schedule.VMStatus
	previewPage
	seen bool
}

// previewWave answers a wave's dialog with the dry runs of all members. It keeps
// nobody from going on: what begins is looked at once more.
func (s *server) previewWave(w http.ResponseWriter, r *http.Request) {
	if !s.mayPreview(w, r) {
		return
	}
	action, wish, err := previewOf(r)
	p := wavePreview{Action: action}
	status := http.StatusOK
	if err == nil {
		err = s.lookAtWave(r.Context(), &p, r.PathValue("name"), wish)
	}
	if err != nil {
		status, p.Failed = previewStatus(err), err.Error()
		line(&p.Failed)
		s.Log.WarnContext(r.Context(), "console preview", "path", r.URL.Path, "action", string(action), "error", err)
	}
	s.write(w, status, "wavepreview", p)
}

func (s *server) lookAtWave(ctx context.Context, p *wavePreview, wave string, wish schedule.LaunchWish) error {
	list, err := s.Backend.VMs(ctx, schedule.VMQuery{Wave: wave, Limit: 1000})
	if err != nil {
		return err
	}
	if len(list.VMs) == 0 {
		return fmt.Errorf("no VM is in the wave %q: %w", clip(wave, 80), schedule.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, waveLookTime)
	defer cancel()
	rows := make([]memberPreview, len(list.VMs))
	var g errgroup.Group
	g.SetLimit(wavePreviews)
	for i, vm := range list.VMs {
		g.Go(func() error {
			rows[i] = s.lookAtMember(ctx, vm, p.Action, wish)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	p.sum(rows)
	return nil
}

func (s *server) lookAtMember(ctx context.Context, vm schedule.VMStatus, a schedule.LaunchAction, wish schedule.LaunchWish) memberPreview {
	m := memberPreview{VM: vm}
	if ctx.Err() != nil {
		return m
	}
	p, err := s.Launches.PreviewLaunch(ctx, vm.ID, a, wish)
	switch {
	case err == nil:
		m.LaunchPreview = p
	case ctx.Err() != nil:
		return m
	default:
		m.Failed = err.Error()
	}
	m.seen = true
	bound(&m.previewPage)
	return m
}

// sum is what the members' dry runs mean for the wave.
func (p *wavePreview) sum(rows []memberPreview) {
	for _, m := range rows {
		if !m.seen {
			p.Unseen++
			continue
		}
		p.Rows = append(p.Rows, m)
		if !m.Possible() {
			p.Refused++
		}
		p.ToLaunch, p.Downtime = max(p.ToLaunch, m.ToLaunch), max(p.Downtime, m.Downtime)
		p.Partly = p.Partly || m.Downtime == 0 || len(m.Unknown) > 0
	}
	p.Partly = p.Partly || p.Unseen > 0
}
