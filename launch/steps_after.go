package launch

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// awaitStatus waits for EC2's own checks. An instance that boots slowly may be
// called impaired for a while: that is told, and no end.
func (r *run) awaitStatus(ctx context.Context) error {
	id := r.world.Instance.ID
	told := false
	return r.until(ctx, "wait for the status checks of "+id, r.timing.Status, func(ctx context.Context) (bool, string, error) {
		out, err := callFresh(ctx, r.Launcher, "look at the status of "+id, r.ec2.DescribeInstanceStatus, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}, IncludeAllInstances: aws.Bool(true)})
		if err != nil || len(out.InstanceStatuses) == 0 {
			return false, "not known to EC2", err
		}
		s := out.InstanceStatuses[0]
		if s.InstanceState != nil && s.InstanceState.Name != types.InstanceStateNameRunning {
			return false, "", transfer.Fail(transfer.Retry, "check instance "+id, fmt.Errorf("it is %s", s.InstanceState.Name), "look at its console output in the job")
		}
		var instance, system types.SummaryStatus
		if s.InstanceStatus != nil {
			instance = s.InstanceStatus.Status
		}
		if s.SystemStatus != nil {
			system = s.SystemStatus.Status
		}
		state := fmt.Sprintf("instance %s, system %s", instance, system)
		if instance == types.SummaryStatusImpaired && !told {
			told = true
			r.log(EventStepFail, StepStatus, "%s: the guest does not answer yet", state)
		}
		return instance == types.SummaryStatusOk && system == types.SummaryStatusOk, state, nil
	})
}

// witness keeps what the instance showed when a step after its start failed.
func (r *run) witness(ctx context.Context, failed StepName) {
	switch failed {
	case StepRunning, StepStatus, StepChecks, StepRoot, StepData:
	default:
		return
	}
	if r.world.Instance == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timing.Cleanup)
	defer cancel()
	id := aws.String(r.world.Instance.ID)
	out, err := r.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: id, Latest: aws.Bool(true)})
	if err != nil { // Xen types know no latest output
		out, err = r.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: id})
	}
	if err == nil {
		r.job.Console = decodeConsole(aws.ToString(out.Output))
	}
	if shot, err := r.ec2.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: id}); err == nil {
		r.job.Screen, _ = base64.StdEncoding.DecodeString(aws.ToString(shot.ImageData))
	}
	_ = r.keep(ctx) // the step's own error is the one to tell
}

// maxConsole bounds what is kept of the console: its end, where a boot stops.
const maxConsole = 16 << 10

func decodeConsole(text string) string {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b = []byte(text)
	}
	if len(b) > maxConsole {
		b = b[len(b)-maxConsole:]
	}
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f {
			return c
		}
		return -1
	}, strings.ToValidUTF8(string(b), "\ufffd"))
}

// runChecks runs the user's checks, and notes on the point that it did not boot
// to what they want, if so.
func (r *run) runChecks(ctx context.Context) error {
	if err := r.seeInstanceByID(ctx); err != nil {
		return err
	}
	r.job.Checks = nil
	var wrong []string
	for i, c := range r.job.Request.Settings.Checks {
		result := r.check(ctx, fmt.Sprintf("check%d", i), c)
		r.job.Checks = append(r.job.Checks, result)
		r.log(EventStepEnd, StepChecks, "%s: %s", result.Name, result.Text)
		if !result.OK {
			wrong = append(wrong, result.Name+": "+result.Text)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	err := refuse("check the launched instance", "the instance stays as it is: look at it, and end the launch", "%s", strings.Join(wrong, "; "))
	if ctx.Err() == nil {
		if note := r.writeProof(ctx, Proof{At: r.now(), Job: r.job.ID, Purpose: r.job.Request.Purpose, Text: wrong[0]}); note != nil {
			r.job.note(note.Error())
		}
	}
	return err
}

// prove notes on the point that it boots.
func (r *run) prove(ctx context.Context) error {
	p := Proof{At: r.now(), Job: r.job.ID, Purpose: r.job.Request.Purpose, OK: true, Checks: len(r.job.Checks), Type: r.world.Instance.Type}
	return r.writeProof(ctx, p)
}

// Proof is how a launch of a point ended, as the tag snapferry:boot-proved of
// its snapshots has it. It is no transfer.Verification: that says which blocks
// are right, this what the whole boots to.
type Proof struct {
	Cycle   transfer.CycleID `json:"cycle"`
	At      time.Time        `json:"at"`
	Job     JobID            `json:"job"`
	Purpose Purpose          `json:"for"`
	OK      bool             `json:"ok"`
	Checks  int              `json:"checks"` // of the user's, besides EC2's own
	Type    string           `json:"type,omitempty"`
	Text    string           `json:"text,omitempty"` // what was wrong
}

func (r *run) writeProof(ctx context.Context, p Proof) error {
	point := r.job.Request.Point
	p.Cycle, p.At = point.Cycle, p.At.UTC().Truncate(time.Second)
	var text []byte
	for n := maxTagValue; ; n -= 16 { // quoting lengthens some texts
		p.Text = printable(p.Text, max(n-190, 8))
		var err error
		if text, err = json.Marshal(p); err != nil {
			return fmt.Errorf("note that point %s boots: %w", point.Cycle, err)
		}
		if len(text) <= maxTagValue || len(p.Text) <= 8 {
			break
		}
	}
	var ids []string
	for _, d := range point.Disks {
		ids = append(ids, string(d.ID))
	}
	_, err := call(ctx, r.Launcher, "note on point "+string(point.Cycle)+" whether it boots", r.ec2.CreateTags, &ec2.CreateTagsInput{Resources: ids, Tags: toTags(map[string]string{tagProved: string(text)})})
	return err
}

// ProofOf reads the proof in a snapshot's tags; nil where there is none, or one
// that was copied from another point.
func ProofOf(tags map[string]string) *Proof {
	var p Proof
	if err := json.Unmarshal([]byte(tags[tagProved]), &p); err != nil || string(p.Cycle) != tags[tagCycle] || p.At.IsZero() {
		return nil
	}
	p.Text = printable(p.Text, maxTagValue)
	return &p
}

// stop stops the instance and waits until it has.
func (r *run) stop(ctx context.Context) error { return r.halt(ctx) }

// halt stops the job's instance; one that is gone has stopped.
func (r *run) halt(ctx context.Context) error {
	if r.world.Instance == nil {
		return nil
	}
	id := r.world.Instance.ID
	return r.until(ctx, "stop instance "+id, r.timing.Running+r.timing.Terminate, func(ctx context.Context) (bool, string, error) {
		i, err := r.instance(ctx, id)
		if err != nil || i == nil {
			return false, "not known to EC2", err
		}
		r.world.Instance = i
		switch i.State {
		case "stopped", "terminated":
			return true, "", nil
		case "running":
			_, err := call(ctx, r.Launcher, "stop instance "+id, r.ec2.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{id}})
			return false, i.State, err
		}
		return false, i.State, nil // EC2 stops no instance that is pending
	})
}
