package launch

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// preflight is everything that can be known to fail before anything is done, in
// a cutover before the source goes off.
func (r *run) preflight(ctx context.Context) error {
	notes, err := r.job.Request.Check(r.world)
	if err != nil {
		return err
	}
	for _, n := range notes {
		r.job.note(n)
	}
	if left := r.job.leftOut(); len(left) > 0 {
		r.job.note("not copied, since EC2 does not take them or has no room: " + strings.Join(left, ", "))
	}
	s := r.job.Request.Settings
	if s.converts() && r.convert == nil {
		return refuse("check the launch", "", "nothing was given that converts guests")
	}
	for _, c := range s.Checks {
		if c.Kind == CheckSSM && r.ssm == nil {
			return refuse("check the launch", "", "an SSM check is set and there is no client for it")
		}
		if c.Kind == CheckScript {
			if _, err := exec.LookPath(c.Target); err != nil {
				return refuse("check the launch", "check the path, and that it may be executed", "look for the check's script: %w", err)
			}
		}
		if c.Kind == CheckSSM && s.IAMProfile == "" && s.LaunchTemplate == "" {
			r.job.note("an SSM check is set and iamProfile is not: the guest's agent signs in only if the account manages hosts by default")
		}
	}
	if s.Licence == LicenceAWS && r.world.Image == nil {
		return refuse("look at image "+s.StockImage, "set stockImage to one of this region", "EC2 knows no such image")
	}
	if _, err := r.userData(); err != nil {
		return err
	}
	if s.InstanceType != "" {
		if err := r.checkType(ctx, s.InstanceType); err != nil {
			return err
		}
	}
	return refused(r.permissions(ctx))
}

// checkType holds a type that was set against what the guest needs.
func (r *run) checkType(ctx context.Context, name string) error {
	t, err := r.typeNamed(ctx, name, r.world.Subnet.Zone)
	if err != nil {
		return err
	}
	want := requirements(r.job.Request, r.world, nil)
	if err := t.Fits(want); err != nil {
		return refuse("use instance type "+name, "set instanceType to auto or to another type", "%w", err)
	}
	if short := t.smaller(want); short != "" {
		r.job.note(fmt.Sprintf("instance type %s was set: %s", name, short))
	}
	return nil
}

// chooseType sets the job's type where the settings leave it open.
func (r *run) chooseType(ctx context.Context) error {
	if s := r.job.Request.Settings.InstanceType; s != "" {
		return r.checkType(ctx, s)
	}
	if r.job.Type != "" {
		return nil
	}
	want := requirements(r.job.Request, r.world, r.job.Without)
	all, err := r.typesFor(ctx, want)
	if err != nil {
		return err
	}
	chosen, why, err := Choose(all, want)
	if err != nil {
		return err
	}
	r.job.Type, r.job.TypeWhy, r.world.Type = chosen.Name, why, chosen.Name
	return nil
}

// Permission is whether a call would be allowed.
type Permission struct {
	Action  string `json:"action"`
	Allowed bool   `json:"allowed"`
	Unknown string `json:"unknown,omitempty"` // why it could not be asked
}

func refused(all []Permission) error {
	var denied []string
	for _, p := range all {
		if !p.Allowed && p.Unknown == "" {
			denied = append(denied, p.Action)
		}
	}
	if len(denied) == 0 {
		return nil
	}
	return refuse("check the permissions", "allow them in the IAM policy of these credentials", "EC2 denies %s", strings.Join(denied, ", "))
}

// permissions asks EC2 by DryRun. What needs something that is not there yet
// cannot be asked.
func (r *run) permissions(ctx context.Context) []Permission {
	var all []Permission
	yes := aws.Bool(true)
	add := func(action string, try func(context.Context) error) {
		actx, cancel := context.WithTimeout(ctx, r.timing.Attempt)
		defer cancel()
		all = append(all, permission("ec2:"+action, try(actx)))
	}
	boot := r.job.Request.boot()
	if s := r.job.Request.Settings; s.Licence == LicenceBYOL && boot != nil {
		add("RegisterImage", func(ctx context.Context) error {
			in := r.imageInput(boot.ID)
			in.DryRun, in.Name = yes, aws.String(r.job.ID.imageName()+" dry run")
			_, err := r.ec2.RegisterImage(ctx, in)
			return err
		})
	}
	if boot != nil {
		add("CreateTags", func(ctx context.Context) error {
			_, err := r.ec2.CreateTags(ctx, &ec2.CreateTagsInput{DryRun: yes, Resources: []string{string(boot.ID)}, Tags: toTags(map[string]string{tagInUse: string(r.job.ID)})})
			return err
		})
	}
	if r.world.Image == nil || r.wantedType() == "" {
		return append(all, Permission{Action: "ec2:RunInstances", Unknown: "there is no image yet to ask with"})
	}
	add("RunInstances", func(ctx context.Context) error {
		in, err := r.runInput()
		if err != nil {
			return err
		}
		in.DryRun, in.ClientToken = yes, nil
		_, err = r.ec2.RunInstances(ctx, in)
		return err
	})
	return all
}

func permission(action string, err error) Permission {
	switch code(err) {
	case "DryRunOperation":
		return Permission{Action: action, Allowed: true}
	case "UnauthorizedOperation":
		return Permission{Action: action}
	}
	why := "EC2 answered a dry run as if it were none"
	if err != nil {
		why = err.Error()
	}
	return Permission{Action: action, Unknown: why}
}

func (r *run) preSync(ctx context.Context) error {
	if r.source.PreSync == nil {
		return nil
	}
	return r.source.PreSync(ctx)
}

// powerOff gives the guest its time, and pulls the plug only where that was
// asked for.
func (r *run) powerOff(ctx context.Context) error {
	s := r.job.Request.Settings
	if r.source.PowerOff == nil || r.source.FinalSync == nil {
		return refuse("cut over "+r.job.Request.VMName, "", "nothing was given that powers the source off and replicates it")
	}
	graceful, cancel := context.WithTimeout(ctx, s.ShutdownFor)
	err := r.source.PowerOff(graceful, false)
	late := graceful.Err() != nil
	cancel()
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case !s.ForceOff && late:
		return transfer.Fail(transfer.Retry, "shut down "+r.job.Request.VMName, fmt.Errorf("its guest has not shut down within %v: %w", s.ShutdownFor, err),
			"look at its console; repeat the cutover to wait again, set forcePowerOff, or revert")
	case !s.ForceOff:
		return fmt.Errorf("shut down %s: %w", r.job.Request.VMName, err)
	}
	r.job.note(fmt.Sprintf("the source was powered off by force: %v", err))
	if err := r.source.PowerOff(ctx, true); err != nil {
		return fmt.Errorf("power off %s by force: %w", r.job.Request.VMName, err)
	}
	return nil
}

// finalSync takes the point of the source that is off, which is what is
// launched from here on.
func (r *run) finalSync(ctx context.Context) error {
	p, err := r.source.FinalSync(ctx)
	if err != nil {
		return fmt.Errorf("replicate %s for the last time: %w", r.job.Request.VMName, err)
	}
	r.job.Request.Point = p
	if _, err := r.job.Request.Check(r.world); err != nil {
		return err
	}
	return r.seeMarks(ctx)
}

// mark writes into the snapshots that this job uses them.
func (r *run) mark(ctx context.Context) error {
	if err := r.seeMarks(ctx); err != nil { // anew: ending the previous launch has changed them
		return err
	}
	for id, users := range r.world.Marks {
		if err := r.setUsers(ctx, id, union(users, string(r.job.ID))); err != nil {
			return err
		}
	}
	return nil
}

func union(users []string, id string) []string {
	for _, u := range users {
		if u == id {
			return users
		}
	}
	return append(users[:len(users):len(users)], id)
}

// setUsers writes the mark; nobody left takes it away. A mark that has grown too
// long for a tag, by many jobs at once, keeps the newest, ours among them: the
// snapshot stays marked, which is what counts.
func (l *Launcher) setUsers(ctx context.Context, id transfer.SnapshotID, users []string) error {
	what := fmt.Sprintf("mark who uses %s", id)
	if len(users) == 0 {
		_, err := callUntil(ctx, l, what, l.ec2.DeleteTags, &ec2.DeleteTagsInput{Resources: []string{string(id)}, Tags: []types.Tag{{Key: aws.String(tagInUse)}}}, nil)
		if isMissing(err) {
			return nil
		}
		return err
	}
	for len(strings.Join(users, " ")) > maxTagValue {
		users = users[1:]
	}
	_, err := call(ctx, l, what, l.ec2.CreateTags, &ec2.CreateTagsInput{Resources: []string{string(id)}, Tags: toTags(map[string]string{tagInUse: strings.Join(users, " ")})})
	return err
}

// convertBoot makes the guest ready, and marks what came of it.
func (r *run) convertBoot(ctx context.Context) error {
	boot := r.job.Request.boot()
	if r.job.Request.Settings.AsIs {
		r.job.Boot, r.job.Conversion = boot.ID, &ConversionReport{Doubts: []string{"nobody looked whether the guest is ready for EC2: convert is no"}}
		return nil
	}
	id, report, err := r.convert(ctx, r.job.Request.Point)
	if err != nil {
		return fmt.Errorf("make the guest of %s ready for EC2: %w", r.job.Request.VMName, err)
	}
	if id == "" {
		id = boot.ID
	}
	r.job.Boot, r.job.Conversion = id, &report
	if id == boot.ID {
		return nil
	}
	if err := r.keep(ctx); err != nil {
		return err
	}
	if err := r.seeMarks(ctx); err != nil {
		return err
	}
	users, there := r.world.Marks[id]
	if !there {
		return errors.New("look at the converted snapshot " + string(id) + ": EC2 does not show it")
	}
	return r.setUsers(ctx, id, union(users, string(r.job.ID)))
}
