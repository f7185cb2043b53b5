package console

import (
	"context"
	"fmt"
	"net/url"

	"snapferry/schedule"
	"snapferry/transfer"
)

var _ LaunchBackend = (*Client)(nil)

// Launch is LaunchBackend's.
func (c *Client) Launch(ctx context.Context, _ schedule.Actor, vms []transfer.VMID, wave string, a schedule.LaunchAction, wish schedule.LaunchWish) ([]schedule.Done, error) {
	if len(vms) > maxActed { // all or none: not in parts
		return nil, invalid(fmt.Sprintf("%d VMs are more than the %d that can be launched at once", len(vms), maxActed), "")
	}
	send := wanted{Action: a, Wave: wave, Wish: wish}
	for _, vm := range vms {
		send.VMs = append(send.VMs, ID(vm))
	}
	var in doneList
	err := c.try(ctx, api+"/launches", send, &in)
	return in.Done, err
}

// PreviewLaunch is LaunchBackend's.
func (c *Client) PreviewLaunch(ctx context.Context, vm transfer.VMID, a schedule.LaunchAction, wish schedule.LaunchWish) (p schedule.LaunchPreview, err error) {
	return p, c.try(ctx, api+"/vms/"+url.PathEscape(ID(vm))+"/launch/preview", previewed{a, wish}, &p)
}

// CancelLaunch is LaunchBackend's.
func (c *Client) CancelLaunch(ctx context.Context, _ schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actCancelLaunch}, vms)
}

// LaunchRun is LaunchBackend's.
func (c *Client) LaunchRun(ctx context.Context, id int64) (r schedule.LaunchRun, err error) {
	return r, c.get(ctx, fmt.Sprintf("%s/launches/%d", api, id), nil, &r)
}

// LaunchRuns is LaunchBackend's.
func (c *Client) LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error) {
	var in launchRunList
	err := c.get(ctx, api+"/launches", LaunchValues(q), &in)
	return in.Launches, err
}

// LaunchJobs is LaunchBackend's.
func (c *Client) LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	v := url.Values{}
	if q.VM != nil {
		v.Set("vm", ID(*q.VM))
	}
	putFlag(v, "open", q.Open)
	put(v, "before", q.Before)
	putNumber(v, "limit", int64(q.Limit))
	var in launchJobList
	err := c.get(ctx, api+"/launch-jobs", v, &in)
	return in.Jobs, err
}

// LaunchJob is LaunchBackend's.
func (c *Client) LaunchJob(ctx context.Context, id string) (j schedule.LaunchJob, err error) {
	return j, c.get(ctx, api+"/launch-jobs/"+url.PathEscape(id), nil, &j)
}
