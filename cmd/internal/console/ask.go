package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"snapferry/schedule"
	"snapferry/transfer"
)

var _ Backend = (*Client)(nil)

// Overview is Backend's.
func (c *Client) Overview(ctx context.Context) (o schedule.Overview, err error) {
	return o, c.get(ctx, api+"/overview", nil, &o)
}

// VMs is Backend's.
func (c *Client) VMs(ctx context.Context, q schedule.VMQuery) (p schedule.VMPage, err error) {
	return p, c.get(ctx, api+"/vms", VMValues(q), &p)
}

// VM is Backend's.
func (c *Client) VM(ctx context.Context, id transfer.VMID) (d schedule.VMDetail, err error) {
	return d, c.get(ctx, api+"/vms/"+url.PathEscape(ID(id)), nil, &d)
}

// Resolve is Backend's.
func (c *Client) Resolve(ctx context.Context, names []string) (all []transfer.VMID, err error) {
	for some := range slices.Chunk(names, maxNames) {
		var in vmIDs
		if err := c.get(ctx, api+"/resolve", url.Values{"name": some}, &in); err != nil {
			return nil, err
		}
		all = append(all, in.VMs...)
	}
	return all, nil
}

// Runs is Backend's.
func (c *Client) Runs(ctx context.Context, q schedule.RunQuery) ([]schedule.Run, error) {
	var in runList
	err := c.get(ctx, api+"/runs", RunValues(q), &in)
	return in.Runs, err
}

// Run is Backend's.
func (c *Client) Run(ctx context.Context, id int64) (r schedule.Run, err error) {
	return r, c.get(ctx, fmt.Sprintf("%s/runs/%d", api, id), nil, &r)
}

// RunLog is Backend's.
func (c *Client) RunLog(ctx context.Context, run, after int64, limit int) ([]schedule.LogLine, error) {
	var in logLines
	err := c.get(ctx, fmt.Sprintf("%s/runs/%d/log", api, run), part("after", after, min(limit, maxLines)), &in)
	return in.Lines, err
}

// part are the parameters of a part of a list.
func part(from string, id int64, limit int) url.Values {
	v := url.Values{from: {strconv.FormatInt(id, 10)}}
	putNumber(v, "limit", int64(limit))
	return v
}

// Events is Backend's.
func (c *Client) Events(ctx context.Context, after int64, limit int) ([]schedule.Event, error) {
	var in eventList
	err := c.get(ctx, api+"/events", part("after", after, min(limit, maxRows)), &in)
	return in.Events, err
}

// LastEvent is Backend's.
func (c *Client) LastEvent(ctx context.Context) (int64, error) {
	var in eventList
	err := c.get(ctx, api+"/events", url.Values{"limit": {"1"}}, &in)
	return in.Last, err
}

// Alarms is Backend's.
func (c *Client) Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error) {
	v := url.Values{}
	putFlag(v, "cleared", cleared)
	putNumber(v, "limit", int64(min(limit, maxRows)))
	var in alarmList
	err := c.get(ctx, api+"/alarms", v, &in)
	return in.Alarms, err
}

// Deeds is Backend's.
func (c *Client) Deeds(ctx context.Context, before int64, limit int) ([]schedule.Deed, error) {
	var in deedList
	err := c.get(ctx, api+"/audit", part("before", before, min(limit, maxRows)), &in)
	return in.Deeds, err
}

// Policies is Backend's.
func (c *Client) Policies(ctx context.Context) ([]schedule.PolicyRow, error) {
	var in policyList
	err := c.get(ctx, api+"/policies", nil, &in)
	return in.Policies, err
}

// Waves is Backend's.
func (c *Client) Waves(ctx context.Context) ([]schedule.Wave, error) {
	var in waveList
	err := c.get(ctx, api+"/waves", nil, &in)
	return in.Waves, err
}

// Settings is Backend's.
func (c *Client) Settings(ctx context.Context) (s schedule.Settings, err error) {
	return s, c.get(ctx, api+"/settings", nil, &s)
}

// ExportCSV is Backend's.
func (c *Client) ExportCSV(ctx context.Context, w io.Writer) error {
	text, err := c.send(ctx, http.MethodGet, api+"/export.csv", nil, "")
	if err != nil {
		return err
	}
	defer text.Close()
	if _, err := io.Copy(w, text); err != nil {
		return c.broken(fmt.Errorf("read the CSV: %w", err))
	}
	return nil
}

// Pause is Backend's.
func (c *Client) Pause(ctx context.Context, _ schedule.Actor, vms []transfer.VMID, why string) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actPause, Why: why}, vms)
}

// Resume is Backend's.
func (c *Client) Resume(ctx context.Context, _ schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actResume}, vms)
}

// Sync is Backend's.
func (c *Client) Sync(ctx context.Context, _ schedule.Actor, vms []transfer.VMID, seed bool) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actSync, Seed: seed}, vms)
}

// Cancel is Backend's.
func (c *Client) Cancel(ctx context.Context, _ schedule.Actor, vms []transfer.VMID) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actCancel}, vms)
}

// Mark is Backend's.
func (c *Client) Mark(ctx context.Context, _ schedule.Actor, vms []transfer.VMID, as string) ([]schedule.Done, error) {
	if !slices.Contains(Marks(), as) {
		return nil, invalid(fmt.Sprintf("there is no mark %q", as), "")
	}
	return c.act(ctx, action{Action: as}, vms)
}

// Choose is Backend's.
func (c *Client) Choose(ctx context.Context, _ schedule.Actor, vms []transfer.VMID, policy string) ([]schedule.Done, error) {
	return c.act(ctx, action{Action: actPolicy, Policy: &policy}, vms)
}

// act asks for an action, in as many requests as it takes.
func (c *Client) act(ctx context.Context, a action, vms []transfer.VMID) (all []schedule.Done, err error) {
	for some := range slices.Chunk(vms, maxActed) {
		a.VMs = make([]string, len(some))
		for i, vm := range some {
			a.VMs[i] = ID(vm)
		}
		var in doneList
		if err := c.do(ctx, http.MethodPost, api+"/actions", a, &in); err != nil {
			return all, err
		}
		all = append(all, in.Done...)
	}
	return all, nil
}

// SetLaunch is Backend's.
func (c *Client) SetLaunch(ctx context.Context, _ schedule.Actor, vm transfer.VMID, l schedule.Launch) error {
	if l == nil {
		l = schedule.Launch{}
	}
	var in schedule.Launch
	return c.do(ctx, http.MethodPut, api+"/vms/"+url.PathEscape(ID(vm))+"/launch", l, &in)
}

// SavePolicy is Backend's.
func (c *Client) SavePolicy(ctx context.Context, _ schedule.Actor, p schedule.Policy) error {
	var in schedule.PolicyRow
	return c.do(ctx, http.MethodPut, api+"/policies/"+url.PathEscape(p.Name), p, &in)
}

// DeletePolicy is Backend's.
func (c *Client) DeletePolicy(ctx context.Context, _ schedule.Actor, name string) error {
	var in gone
	return c.do(ctx, http.MethodDelete, api+"/policies/"+url.PathEscape(name), nil, &in)
}

// SaveWave is Backend's.
func (c *Client) SaveWave(ctx context.Context, _ schedule.Actor, w schedule.Wave) error {
	var in schedule.Wave
	return c.do(ctx, http.MethodPut, api+"/waves/"+url.PathEscape(w.Name), w, &in)
}

// DeleteWave is Backend's.
func (c *Client) DeleteWave(ctx context.Context, _ schedule.Actor, name string) error {
	var in gone
	return c.do(ctx, http.MethodDelete, api+"/waves/"+url.PathEscape(name), nil, &in)
}

// ActOnWave is Backend's.
func (c *Client) ActOnWave(ctx context.Context, _ schedule.Actor, name, what string) ([]schedule.Done, error) {
	var in doneList
	err := c.try(ctx, api+"/waves/"+url.PathEscape(name)+"/"+url.PathEscape(what), nil, &in)
	return in.Done, err
}

// ImportCSV is Backend's.
func (c *Client) ImportCSV(ctx context.Context, _ schedule.Actor, r io.Reader) ([]schedule.Done, error) {
	text, err := c.send(ctx, http.MethodPost, api+"/import.csv", r, "text/csv; charset=utf-8")
	if err != nil {
		return nil, err
	}
	defer text.Close()
	var in doneList
	if err := json.NewDecoder(text).Decode(&in); err != nil {
		return nil, c.broken(fmt.Errorf("read the answer: %w", err))
	}
	return in.Done, nil
}

// RecordDeed does nothing: a connector writes its own audit log, of what it was
// asked for.
func (c *Client) RecordDeed(context.Context, schedule.Deed) error { return nil }
