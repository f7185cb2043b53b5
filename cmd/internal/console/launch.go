package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

type (
	launchRunList struct {
		Launches []schedule.LaunchRun `json:"launches"`
	}
	launchJobList struct {
		Jobs []schedule.LaunchJob `json:"jobs"`
	}
)

// launches is the backend of launches; without one everything is refused.
func (s *Server) launches() LaunchBackend {
	if s.config.Launches == nil {
		return noLaunches{}
	}
	return s.config.Launches
}

// launch begins an action on the VM of the path; its body is the wish.
func (s *Server) launch(r *http.Request, a schedule.LaunchAction) (any, error) {
	by, _ := ActorOf(r.Context())
	var wish schedule.LaunchWish
	return s.only(r, &wish, func(vms []transfer.VMID) ([]schedule.Done, error) {
		return s.launches().Launch(r.Context(), by, vms, "", a, wish)
	})
}

// wanted is the body of POST /launches.
type wanted struct {
	Action schedule.LaunchAction `json:"action"`
	VMs    []string              `json:"vms,omitempty"` // IDs, names, paths, morefs, instance UUIDs
	Wave   string                `json:"wave,omitempty"`
	Wish   schedule.LaunchWish   `json:"wish"`
}

// launchSeveral begins an action on VMs, on all of them or on none.
func (s *Server) launchSeveral(r *http.Request) (any, error) {
	var in wanted
	if err := noParams(r); err != nil {
		return nil, err
	}
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if (len(in.VMs) == 0 && in.Wave == "") || len(in.VMs) > maxActed {
		return nil, invalid(fmt.Sprintf("vms names %d VMs; it must be 1 to %d, or wave names a wave", len(in.VMs), maxActed), "")
	}
	about(r, strings.Join(in.VMs, ", "))
	var vms []transfer.VMID // none is all of the wave
	if len(in.VMs) > 0 {
		var err error
		if vms, err = s.config.Backend.Resolve(r.Context(), in.VMs); err != nil {
			return nil, err
		}
	}
	return s.launchAll(r, vms, in.Wave, in.Action, in.Wish)
}

// launchWave begins an action on every VM of a wave; the body is the wish.
func (s *Server) launchWave(r *http.Request, name string, a schedule.LaunchAction) (any, error) {
	var wish schedule.LaunchWish
	if err := body(r, &wish); err != nil {
		return nil, err
	}
	return s.launchAll(r, nil, name, a, wish)
}

func (s *Server) launchAll(r *http.Request, vms []transfer.VMID, wave string, a schedule.LaunchAction, wish schedule.LaunchWish) (any, error) {
	by, _ := ActorOf(r.Context())
	if wave != "" {
		about(r, "wave "+wave)
	}
	done, err := s.launches().Launch(r.Context(), by, vms, wave, a, wish)
	outcome(r, done)
	return doneList{some(done)}, err
}

// previewed is the body of POST /vms/{id}/launch/preview.
type previewed struct {
	Action schedule.LaunchAction `json:"action"`
	Wish   schedule.LaunchWish   `json:"wish"`
}

func (s *Server) previewLaunch(r *http.Request) (any, error) {
	id, err := pathVM(r)
	if err == nil {
		err = noParams(r)
	}
	if err != nil {
		return nil, err
	}
	about(r, ID(id))
	var in previewed
	if err := body(r, &in); err != nil {
		return nil, err
	}
	p, err := s.launches().PreviewLaunch(r.Context(), id, in.Action, in.Wish)
	p.Steps = some(p.Steps)
	return p, err
}

func (s *Server) cancelLaunch(r *http.Request) (any, error) {
	return s.single(r, &struct{}{}, func() action { return action{Action: actCancelLaunch} })
}

func (s *Server) launchRuns(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	q, err := ParseLaunchQuery(p.values)
	if err != nil {
		return nil, err
	}
	runs, err := s.launches().LaunchRuns(r.Context(), q)
	return launchRunList{some(runs)}, err
}

func (s *Server) launchRun(r *http.Request) (any, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return nil, badRequest("the ID of a launch run is a number", "")
	}
	if err := noParams(r); err != nil {
		return nil, err
	}
	return s.launches().LaunchRun(r.Context(), id)
}

func (s *Server) launchJobs(r *http.Request) (any, error) {
	p, err := query(r)
	if err != nil {
		return nil, err
	}
	q := schedule.LaunchJobQuery{VM: p.vm("vm"), Open: p.flag("open"), Before: p.text("before"), Limit: int(cmp.Or(p.number("limit", maxRows), defaultRows))}
	if err := p.done(); err != nil {
		return nil, err
	}
	jobs, err := s.launches().LaunchJobs(r.Context(), q)
	return launchJobList{some(jobs)}, err
}

func (s *Server) launchJob(r *http.Request) (any, error) {
	if err := noParams(r); err != nil {
		return nil, err
	}
	return s.launches().LaunchJob(r.Context(), r.PathValue("id"))
}

// noLaunches refuses everything.
type noLaunches struct{}

func (noLaunches) refuse() error {
	return &Error{http.StatusConflict, codeConflict, "this connector does not launch", ""}
}

func (n noLaunches) Launch(context.Context, schedule.Actor, []transfer.VMID, string, schedule.LaunchAction, schedule.LaunchWish) ([]schedule.Done, error) {
	return nil, n.refuse()
}

func (n noLaunches) PreviewLaunch(context.Context, transfer.VMID, schedule.LaunchAction, schedule.LaunchWish) (schedule.LaunchPreview, error) {
	return schedule.LaunchPreview{}, n.refuse()
}

func (n noLaunches) CancelLaunch(context.Context, schedule.Actor, []transfer.VMID) ([]schedule.Done, error) {
	return nil, n.refuse()
}

func (n noLaunches) LaunchRun(context.Context, int64) (schedule.LaunchRun, error) {
	return schedule.LaunchRun{}, n.refuse()
}

func (n noLaunches) LaunchRuns(context.Context, schedule.LaunchQuery) ([]schedule.LaunchRun, error) {
	return nil, n.refuse()
}

func (n noLaunches) LaunchJobs(context.Context, schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	return nil, n.refuse()
}

func (n noLaunches) LaunchJob(context.Context, string) (schedule.LaunchJob, error) {
	return schedule.LaunchJob{}, n.refuse()
}
