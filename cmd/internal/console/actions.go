package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// doneList is what an action did, VM by VM.
type doneList struct {
	Done []schedule.Done `json:"done"`
}

// What can be asked of VMs; a mark goes by its own name.
const (
	actPause  = "pause"
	actResume = "resume"
	actSync   = "sync"
	actCancel = "cancel"
	actPolicy = "policy"
	// actCancelLaunch ends launch runs: see LaunchBackend.CancelLaunch.
	actCancelLaunch = "cancel-launch"
)

// Marks are the words of Backend.Mark.
func Marks() []string {
	return []string{"ready-for-cutover", "ready-for-test", "disconnect", "reconnect"}
}

// maxActed VMs at once: every VM of a large vCenter fits.
const maxActed = 5000

// action is the body of POST /actions.
type action struct {
	Action string   `json:"action"`
	VMs    []string `json:"vms"` // IDs, names, paths, morefs, instance UUIDs
	Why    string   `json:"why,omitempty"`
	Seed   bool     `json:"seed,omitempty"`
	Policy *string  `json:"policy,omitempty"` // "" takes the choice back
}

// act does something to many VMs at once.
func (s *Server) act(r *http.Request) (any, error) {
	var in action
	if err := noParams(r); err != nil {
		return nil, err
	}
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if len(in.VMs) == 0 || len(in.VMs) > maxActed {
		return nil, invalid(fmt.Sprintf("vms names %d VMs; it must be 1 to %d", len(in.VMs), maxActed), "")
	}
	vms, err := s.config.Backend.Resolve(r.Context(), in.VMs)
	if err != nil {
		return nil, err
	}
	done, err := s.perform(r, in, vms)
	return doneList{some(done)}, err
}

// perform asks the backend for an action and keeps what came of it.
func (s *Server) perform(r *http.Request, in action, vms []transfer.VMID) (done []schedule.Done, err error) {
	by, _ := ActorOf(r.Context())
	ctx, b := r.Context(), s.config.Backend
	if err := in.fits(); err != nil {
		return nil, err
	}
	switch {
	case in.Action == actPause:
		done, err = b.Pause(ctx, by, vms, in.Why)
	case in.Action == actResume:
		done, err = b.Resume(ctx, by, vms)
	case in.Action == actSync:
		done, err = b.Sync(ctx, by, vms, in.Seed)
	case in.Action == actCancel:
		done, err = b.Cancel(ctx, by, vms)
	case in.Action == actPolicy:
		done, err = b.Choose(ctx, by, vms, *in.Policy)
	case in.Action == actCancelLaunch:
		done, err = s.launches().CancelLaunch(ctx, by, vms)
	default:
		done, err = b.Mark(ctx, by, vms, in.Action)
	}
	outcome(r, done)
	return done, err
}

// fits refuses unknown actions and what belongs to another one.
func (in action) fits() error {
	all := append([]string{actPause, actResume, actSync, actCancel, actCancelLaunch, actPolicy}, Marks()...)
	switch {
	case !slices.Contains(all, in.Action):
		return invalid(fmt.Sprintf("there is no action %q; there are %s", clip(in.Action), strings.Join(all, ", ")), "")
	case in.Why != "" && in.Action != actPause:
		return invalid("why goes with pause", "")
	case in.Seed && in.Action != actSync:
		return invalid("seed goes with sync", "")
	case (in.Policy != nil) != (in.Action == actPolicy):
		return invalid("policy goes with the action policy, and that with it", "")
	case len(in.Why) > maxAudited:
		return invalid(fmt.Sprintf("why has %d bytes, %d is the most", len(in.Why), maxAudited), "")
	}
	return nil
}

// single does something to the VM of the path. in is where the body goes, what
// makes an action of it.
func (s *Server) single(r *http.Request, in any, what func() action) (any, error) {
	return s.only(r, in, func(vms []transfer.VMID) ([]schedule.Done, error) { return s.perform(r, what(), vms) })
}

// only does something to the VM of the path; what cannot be done is an error
// here rather than a line of a list. in is where the body goes.
func (s *Server) only(r *http.Request, in any, do func([]transfer.VMID) ([]schedule.Done, error)) (any, error) {
	id, err := pathVM(r)
	if err == nil {
		err = noParams(r)
	}
	if err != nil {
		return nil, err
	}
	about(r, ID(id))
	if err := body(r, in); err != nil {
		return nil, err
	}
	done, err := do([]transfer.VMID{id})
	switch {
	case err != nil:
		return nil, err
	case len(done) != 1:
		return nil, fmt.Errorf("%s of one VM gave %d results", r.URL.Path, len(done))
	case done[0].Error != "":
		return nil, s.whyNot(r.Context(), id, done[0])
	}
	return done[0], nil
}

// whyNot tells a VM that does not exist from one that is not in the state.
func (s *Server) whyNot(ctx context.Context, id transfer.VMID, d schedule.Done) error {
	if _, err := s.config.Backend.VM(ctx, id); err != nil {
		return err
	}
	return &Error{http.StatusConflict, codeConflict, d.Error, ""}
}

func (s *Server) pause(r *http.Request) (any, error) {
	var in struct {
		Why string `json:"why"`
	}
	return s.single(r, &in, func() action { return action{Action: actPause, Why: in.Why} })
}

func (s *Server) resume(r *http.Request) (any, error) {
	return s.single(r, &struct{}{}, func() action { return action{Action: actResume} })
}

func (s *Server) sync(r *http.Request) (any, error) {
	var in struct {
		Seed bool `json:"seed"`
	}
	return s.single(r, &in, func() action { return action{Action: actSync, Seed: in.Seed} })
}

func (s *Server) cancel(r *http.Request) (any, error) {
	return s.single(r, &struct{}{}, func() action { return action{Action: actCancel} })
}

func (s *Server) mark(r *http.Request) (any, error) {
	var in struct {
		As string `json:"as"`
	}
	return s.single(r, &in, func() action {
		if !slices.Contains(Marks(), in.As) {
			return action{Action: "mark " + in.As} // which is none
		}
		return action{Action: in.As}
	})
}

func (s *Server) choose(r *http.Request) (any, error) {
	var in struct {
		Policy *string `json:"policy"`
	}
	return s.single(r, &in, func() action { return action{Action: actPolicy, Policy: in.Policy} })
}

func (s *Server) setLaunch(r *http.Request) (any, error) {
	id, err := pathVM(r)
	if err == nil {
		err = noParams(r)
	}
	if err != nil {
		return nil, err
	}
	about(r, ID(id))
	var in schedule.Launch
	if err := body(r, &in); err != nil {
		return nil, err
	}
	if in == nil {
		return nil, invalid("the body must be an object of settings", "{} takes all of them away.")
	}
	by, _ := ActorOf(r.Context())
	if err := s.config.Backend.SetLaunch(r.Context(), by, id, in); err != nil {
		return nil, err
	}
	return in, nil
}
