package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"snapferry/transfer"
)

// Config is what a launcher works with.
type Config struct {
	EC2     EC2
	Convert ConvertFunc
	SSM     SSM // nil: SSM checks are refused
	// Save keeps a job; it has returned before anything is made that the job
	// must know of. Its error ends the operation. nil keeps nothing.
	Save func(ctx context.Context, j Job) error
	// Tell hears of every event as it is added to the job. nil: nobody does.
	Tell     func(j Job, e Event)
	Timing   Timing
	Now      func() time.Time                                                     // nil: time.Now
	Sleep    func(ctx context.Context, d time.Duration) error                     // nil: a timer
	ReadFile func(name string) ([]byte, error)                                    // nil: os.ReadFile, for user data
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer
	HTTP     http.RoundTripper                                                    // nil: a transport of its own per probe
}

// Launcher launches and ends. Its methods may be called by many goroutines, for
// one VM by one at a time.
type Launcher struct {
	ec2      EC2
	convert  ConvertFunc
	ssm      SSM
	save     func(context.Context, Job) error
	tell     func(Job, Event)
	timing   Timing
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
	readFile func(string) ([]byte, error)
	dial     func(context.Context, string, string) (net.Conn, error)
	http     http.RoundTripper
}

// New makes a launcher.
func New(c Config) (*Launcher, error) {
	if c.EC2 == nil {
		return nil, errors.New("make a launcher: there is no EC2 client")
	}
	l := &Launcher{
		ec2: c.EC2, convert: c.Convert, ssm: c.SSM, save: c.Save, tell: c.Tell, timing: c.Timing.withDefaults(),
		now: c.Now, sleep: c.Sleep, readFile: c.ReadFile, dial: c.Dial, http: c.HTTP,
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.sleep == nil {
		l.sleep = sleepFor
	}
	if l.readFile == nil {
		l.readFile = os.ReadFile
	}
	if l.dial == nil {
		l.dial = (&net.Dialer{}).DialContext
	}
	return l, nil
}

// Source is the VM on vSphere, as functions. Each can be called again after a
// crash: what is done already is no error.
type Source struct {
	// PreSync replicates while the source runs, so that the final sync is short;
	// nil leaves that out.
	PreSync func(ctx context.Context) error
	// PowerOff returns once the source is off. Without force it asks the guest to
	// shut down and waits until ctx ends; with force it pulls the plug.
	PowerOff func(ctx context.Context, force bool) error
	// FinalSync replicates the source, which is off, and returns the point that
	// holds all it wrote.
	FinalSync func(ctx context.Context) (transfer.Point, error)
	PowerOn   func(ctx context.Context) error
}

// run is one operation on a job.
type run struct {
	*Launcher
	job    *Job
	source Source
	world  World
}

func (l *Launcher) start(j *Job, src Source) *run {
	return &run{Launcher: l, job: j, source: src}
}

// keep saves the job. It does so even if the operation was cancelled.
func (r *run) keep(ctx context.Context) error {
	if r.save == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timing.Cleanup)
	defer cancel()
	if err := r.save(ctx, *r.job); err != nil {
		return fmt.Errorf("save job %s: %w", r.job.ID, err)
	}
	return nil
}

// asking is called before EC2 is asked to make something.
func (r *run) asking(ctx context.Context) error {
	r.job.Asked = r.now()
	return r.keep(ctx)
}

// step does one step, with its record and its events.
func (r *run) step(ctx context.Context, name StepName, text string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return transfer.Fail(transfer.Canceled, text, err, "")
	}
	kinds := stepEvents(name)
	r.job.begin(name, r.now())
	r.log(kinds[0], name, "%s", text)
	if err := r.keep(ctx); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		r.log(kinds[2], name, "%v", err)
		return errors.Join(err, r.keep(ctx))
	}
	r.job.end(name, r.now())
	r.log(kinds[1], name, "%s", text)
	return r.keep(ctx)
}

// conclude writes how an operation ended into the job.
func (r *run) conclude(ctx context.Context, good State, start, end, fail EventKind, do func() error) error {
	r.job.Error, r.job.Hint = "", ""
	r.log(start, "", "%s %s", r.job.Request.Purpose, r.job.Request.VMName)
	err := do()
	if err != nil {
		r.job.Error, r.job.Hint = err.Error(), transfer.HintOf(err)
		r.log(fail, "", "%v", err)
		return errors.Join(err, r.keep(ctx))
	}
	r.job.State = good
	r.log(end, "", "%s %s", r.job.Request.Purpose, r.job.Request.VMName)
	return r.keep(ctx)
}

// Preview is what a launch would do: the dry run.
type Preview struct {
	World       World        `json:"world"`
	Steps       []Step       `json:"steps"`
	Type        string       `json:"type"`
	TypeWhy     string       `json:"typeWhy"`
	Notes       []string     `json:"notes,omitempty"`
	Permissions []Permission `json:"permissions"`
	Problem     string       `json:"problem,omitempty"` // why it would be refused
	Hint        string       `json:"hint,omitempty"`
}

// Preview looks at AWS and changes nothing.
func (l *Launcher) Preview(ctx context.Context, j Job) (Preview, error) {
	r := l.start(&j, Source{})
	if err := r.look(ctx); err != nil {
		return Preview{}, err
	}
	var p Preview
	notes, err := j.Request.Check(r.world)
	if err == nil {
		err = r.chooseType(ctx)
	}
	if err != nil {
		p.Problem, p.Hint = err.Error(), transfer.HintOf(err)
	}
	p.Permissions = r.permissions(ctx)
	p.World, p.Steps = r.world, Plan(j.Request, r.world)
	p.Type, p.TypeWhy, p.Notes = r.wantedType(), j.TypeWhy, append(notes, j.Notes...)
	return p, nil
}

// launch does what is left of a job's steps.
func (r *run) launch(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	r.job.State = StateLaunching
	for _, s := range Plan(r.job.Request, r.world) {
		// Looked up anew, since the final sync changes the request.
		for _, now := range Plan(r.job.Request, r.world) {
			if now.Name == s.Name {
				s = now
			}
		}
		if s.Done {
			continue
		}
		if err := r.step(ctx, s.Name, s.Text, func(ctx context.Context) error { return r.do(ctx, s.Name) }); err != nil {
			r.witness(ctx, s.Name)
			return err
		}
		r.world.Did[s.Name] = true
		r.job.Downtime = r.job.downtime()
	}
	return nil
}

// do is a step's effect.
func (r *run) do(ctx context.Context, name StepName) error {
	effects := map[StepName]func(context.Context) error{
		StepPreflight: r.preflight, StepType: r.chooseType, StepPrevious: r.endPrevious,
		StepPreSync: r.preSync, StepPowerOff: r.powerOff, StepFinalSync: r.finalSync,
		StepMark: r.mark, StepConvert: r.convertBoot, StepImport: r.importImage, StepImage: r.registerImage,
		StepRun: r.runInstance, StepRunning: r.awaitRunning, StepRoot: r.replaceRoot, StepData: r.attachData,
		StepTag: r.tagVolumes, StepStatus: r.awaitStatus, StepChecks: r.runChecks, StepProve: r.prove, StepStop: r.stop,
	}
	effect, ok := effects[name]
	if !ok {
		return fmt.Errorf("do step %s: there is no such step", name)
	}
	return effect(ctx)
}
