package web

import (
	"html/template"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// word is how a state is shown: a name, a shape and a tone (a colour is never
// alone), what it means and what a person can do.
type word struct {
	Label, Tone, Icon string
	Means, Do         string
}

var replicationWords = map[schedule.Replication]word{
	schedule.ReplicationCurrent: {"Up to date", "ok", "check",
		"The newest recovery point is as fresh as the policy asks for.",
		"Nothing. Launch a test from it, or mark it ready for cutover once a test was found good."},
	schedule.ReplicationDelta: {"Delta running", "info", "sync",
		"A cycle is copying what changed since the last recovery point.",
		"Nothing. The run below shows how far it is."},
	schedule.ReplicationInitial: {"Initial sync", "info", "half",
		"The first recovery point is being made: every disk is copied whole, once.",
		"Nothing but wait. It cannot be tested or cut over before this is done."},
	schedule.ReplicationLagging: {"Lagging", "warn", "clock",
		"The newest recovery point is older than the policy asks for, although no run has failed.",
		"See whether it is queued behind others. If it stays behind, raise its policy's priority or bandwidth, or choose a longer interval."},
	schedule.ReplicationStalled: {"Stalled", "bad", "alert",
		"Its runs fail, so its recovery points grow old.",
		"Remove the cause named here; the next run then goes on from where the last one stopped."},
	schedule.ReplicationPaused: {"Paused", "idle", "pause",
		"Somebody paused it: no cycle starts, and what there is stays.",
		"Resume it when the reason has gone. The longer it waits, the larger its next delta."},
	schedule.ReplicationWaiting: {"Waiting", "idle", "ring",
		"Its first cycle has not begun.",
		"Nothing. It starts by itself as soon as the limits leave room; “Sync now” puts it into the queue at once."},
	schedule.ReplicationNone: {"Not replicated", "idle", "dash",
		"No policy fits this VM, so nothing is copied.",
		"Choose a policy for it, or let a policy match it by name, folder, pool, tag or attribute."},
	schedule.ReplicationEnded: {"Ended", "idle", "square",
		"Replication has ended: the VM was cut over or disconnected.",
		"Nothing. Its recovery points stay as long as retention says."},
}

// stateOrder is how states follow each other where all are listed.
var stateOrder = schedule.Replications()

func stateWords(r schedule.Replication) word {
	if w, ok := replicationWords[r]; ok {
		return w
	}
	return word{Label: string(r), Tone: "idle", Icon: "ring", Means: "This console does not know the state.", Do: "Reload the page: the service may be newer than it."}
}

var lifecycleWords = map[schedule.Lifecycle]word{
	schedule.NotReady:        {Label: "Not ready", Tone: "idle", Means: "There is no complete recovery point yet."},
	schedule.ReadyForTest:    {Label: "Ready for test", Tone: "plain", Means: "A complete recovery point exists: a test instance can be launched."},
	schedule.Testing:         {Label: "Testing", Tone: "plain", Means: "A test instance exists. Replication goes on."},
	schedule.ReadyForCutover: {Label: "Ready for cutover", Tone: "ok", Means: "A test was done and found good."},
	schedule.CuttingOver:     {Label: "Cutting over", Tone: "info", Means: "The source is off or going off, and the last delta runs."},
	schedule.CutOver:         {Label: "Cut over", Tone: "ok", Means: "The cutover instance runs in AWS."},
	schedule.Disconnected:    {Label: "Disconnected", Tone: "idle", Means: "Replication has ended. Recovery points stay as long as retention says."},
}

func lifeWords(l schedule.Lifecycle) word {
	if w, ok := lifecycleWords[l]; ok {
		return w
	}
	return word{Label: string(l), Tone: "idle"}
}

var runStateWords = map[schedule.RunState]word{
	schedule.RunQueued:    {Label: "Queued", Tone: "idle", Icon: "ring", Means: "It waits for room within the limits."},
	schedule.RunStarting:  {Label: "Starting", Tone: "info", Icon: "half", Means: "It was given to an appliance."},
	schedule.RunRunning:   {Label: "Running", Tone: "info", Icon: "sync"},
	schedule.RunDone:      {Label: "Done", Tone: "ok", Icon: "check"},
	schedule.RunFailed:    {Label: "Failed", Tone: "bad", Icon: "alert"},
	schedule.RunCancelled: {Label: "Cancelled", Tone: "idle", Icon: "dash", Means: "Somebody cancelled it. What was copied is kept for the next run."},
}

func runWords(s schedule.RunState) word {
	if w, ok := runStateWords[s]; ok {
		return w
	}
	return word{Label: string(s), Tone: "idle", Icon: "ring"}
}

var reasons = map[schedule.Reason]word{
	schedule.ReasonVCenter:     {Label: "vCenter cannot be reached", Do: "Check that vCenter answers from the appliance on port 443 (network, firewall, DNS)."},
	schedule.ReasonVCenterAuth: {Label: "vCenter refuses the credentials", Do: "Check user, password and role of the connector's vCenter account."},
	schedule.ReasonAWS:         {Label: "AWS cannot be reached", Do: "Check the way to the EBS and EC2 endpoints (proxy, VPC endpoint, DNS)."},
	schedule.ReasonAWSAuth:     {Label: "AWS refuses the credentials", Do: "Check the role or key of the appliance, and that its clock is right."},
	schedule.ReasonThrottled:   {Label: "AWS throttles requests", Do: "Lower the put rate of the account, or ask AWS for a higher quota."},
	schedule.ReasonObstacle:    {Label: "This VM cannot be replicated as it is", Do: "Remove the obstacles listed on this page."},
	schedule.ReasonSnapshot:    {Label: "The VM snapshot could not be made or removed", Do: "Look at the VM's tasks in vCenter; consolidate its disks if vCenter says so."},
	schedule.ReasonAttach:      {Label: "A frozen disk could not be attached to the appliance", Do: "Check that the appliance sees the datastore, has free SCSI slots, and may reconfigure itself."},
	schedule.ReasonDatastore:   {Label: "A datastore is low on space", Do: "Free space on it: a VM snapshot grows there while a cycle runs."},
	schedule.ReasonNoReach:     {Label: "No living appliance reaches its datastores", Do: "Start an appliance on a host that mounts all datastores of this VM."},
	schedule.ReasonConverge:    {Label: "It writes faster than it uploads", Do: "Give it more bandwidth or fewer neighbours, or plan a longer window for its final sync."},
	schedule.ReasonAttempts:    {Label: "It was taken in hand too often", Do: "Read the log of its last run, then press “Sync now”."},
	schedule.ReasonRetry:       {Label: "A passing failure", Do: "Nothing: it is tried again by itself."},
	schedule.ReasonOther:       {Label: "Its last run failed", Do: "Read the log of its last run."},
}

func reasonWords(r schedule.Reason) word {
	if w, ok := reasons[r]; ok {
		return w
	}
	return word{Label: string(r), Do: "Read the log of its last run."}
}

var steps = map[transfer.Step]string{
	transfer.StepInspect: "Inspect the VM", transfer.StepFreeze: "Take the VM snapshot", transfer.StepPlan: "Plan", transfer.StepCopy: "Copy blocks",
	transfer.StepDetach: "Detach disks", transfer.StepRelease: "Remove the VM snapshot", transfer.StepSeal: "Seal EBS snapshots", transfer.StepCommit: "Commit the point",
	transfer.StepDone: "Done",
}

func stepWord(s transfer.Step) string {
	if w, ok := steps[s]; ok {
		return w
	}
	return string(s)
}

// kindWord is a plan's kind as a label with its meaning.
func kindWord(k transfer.PlanKind) word {
	switch k {
	case transfer.Seed:
		return word{Label: "Seed", Means: "the whole disk"}
	case transfer.Compare:
		return word{Label: "Compare", Means: "read whole, only differing blocks put"}
	case transfer.Delta:
		return word{Label: "Delta", Means: "what changed since the point before"}
	case "":
		return word{Label: "–", Means: "not planned yet"}
	}
	return word{Label: string(k)}
}

var alarmWords = map[schedule.AlarmKind]word{
	schedule.AlarmStalled: {Label: "Stalled", Tone: "bad"}, schedule.AlarmLag: {Label: "Lag", Tone: "warn"}, schedule.AlarmConverge: {Label: "Not converging", Tone: "warn"},
	schedule.AlarmLeftover: {Label: "Leftover VM snapshot", Tone: "bad"}, schedule.AlarmLeftDisk: {Label: "Leftover disk", Tone: "bad"},
	schedule.AlarmDatastore: {Label: "Datastore low", Tone: "warn"}, schedule.AlarmAudit: {Label: "Audit mismatch", Tone: "bad"}, schedule.AlarmSuspect: {Label: "Suspect point", Tone: "bad"},
	schedule.AlarmCertificate: {Label: "Certificate expiry", Tone: "warn"}, schedule.AlarmCredentials: {Label: "Credentials", Tone: "bad"},
	schedule.AlarmAppliance: {Label: "Appliance down", Tone: "bad"}, schedule.AlarmQuota: {Label: "Quota", Tone: "warn"}, schedule.AlarmCutover: {Label: "Cutover failed", Tone: "bad"}, schedule.AlarmTestLeft: {Label: "Test left over", Tone: "bad"}, schedule.AlarmProof: {Label: "Boot proof failed", Tone: "bad"},
	schedule.AlarmOther: {Label: "Other", Tone: "warn"},
}

func alarmWord(k schedule.AlarmKind) word {
	w, ok := alarmWords[k]
	if !ok {
		w = word{Label: string(k), Tone: "warn"}
	}
	w.Icon = "clock"
	if w.Tone == "bad" {
		w.Icon = "alert"
	}
	return w
}

// eventWord makes "REPLICATION_TAKEN_OVER" readable and gives it a tone.
func eventWord(k schedule.EventKind) word {
	text := strings.ToLower(strings.ReplaceAll(string(k), "_", " "))
	if text != "" {
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	w := word{Label: strings.Replace(text, "Vm ", "VM ", 1), Tone: "idle"}
	if tone := kindTone(string(k)); !strings.HasPrefix(string(k), "REPLICATION_") && tone != "idle" {
		w.Tone = tone
	}
	switch k {
	case schedule.EventRunFail, schedule.EventStalled, schedule.EventAlarm, schedule.EventApplianceDown:
		w.Tone = "bad"
	case schedule.EventRunEnd, schedule.EventInitialDone, schedule.EventRecovered, schedule.EventAlarmCleared, schedule.EventApplianceUp, schedule.EventBootProved:
		w.Tone = "ok"
	case schedule.EventRunStart, schedule.EventRunQueued, schedule.EventLaunchQueued:
		w.Tone = "info"
	case schedule.EventRunTakenOver, schedule.EventRunCancelled, schedule.EventVMGone, schedule.EventLaunchCancelled:
		w.Tone = "warn"
	}
	return w
}

// shapes are the icons on a grid of 16: each state has a shape of its own.
var shapes = map[string]string{
	"check":     `<circle cx="8" cy="8" r="6.25"/><path d="M5.2 8.2l2 2 3.6-4.2"/>`,
	"sync":      `<path d="M13.5 8a5.5 5.5 0 0 1-9.8 3.4M2.5 8a5.5 5.5 0 0 1 9.8-3.4"/><path d="M12.6 1.8v3h-3M3.4 14.2v-3h3"/>`,
	"half":      `<circle cx="8" cy="8" r="6.25"/><path class="fill" d="M8 1.75a6.25 6.25 0 0 1 0 12.5z"/>`,
	"clock":     `<path d="M8 1.8 14.6 13.6H1.4z"/><path d="M8 6.2v3.6M8 11.7v.1"/>`,
	"alert":     `<path class="solid" d="M5.2 1.2h5.6l4 4v5.6l-4 4H5.2l-4-4V5.2z"/><path class="cut" d="M5.7 5.7l4.6 4.6M10.3 5.7l-4.6 4.6"/>`,
	"pause":     `<circle cx="8" cy="8" r="6.25"/><path d="M6.3 5.7v4.6M9.7 5.7v4.6"/>`,
	"ring":      `<circle cx="8" cy="8" r="5.5" stroke-dasharray="2.3 2"/>`,
	"dash":      `<path d="M3.5 8h9"/>`,
	"square":    `<rect x="3" y="3" width="10" height="10" rx="1.5"/>`,
	"overview":  `<path d="M2 13.5h12M3.5 11V8M6.5 11V4.5M9.5 11V6.5M12.5 11V2.5"/>`,
	"vms":       `<rect x="2" y="2.5" width="12" height="4.5" rx="1"/><rect x="2" y="9" width="12" height="4.5" rx="1"/><path d="M4.5 4.75h.1M4.5 11.25h.1"/>`,
	"runs":      `<path d="M2 4h7M5 8h7M8 12h6"/>`,
	"launches":  `<path d="M8 10.5V2M4.8 5.2 8 2l3.2 3.2M2.5 10v2.5a1 1 0 0 0 1 1h9a1 1 0 0 0 1-1V10"/>`,
	"waves":     `<path d="M1.5 5.5c2-2.5 4.3-2.5 6.5 0s4.5 2.5 6.5 0M1.5 10.5c2-2.5 4.3-2.5 6.5 0s4.5 2.5 6.5 0"/>`,
	"alarms":    `<path d="M3 12h10l-1.3-2V7a3.7 3.7 0 0 0-7.4 0v3zM6.7 14.2h2.6"/>`,
	"events":    `<path d="M5.5 3.5h8.5M5.5 8h8.5M5.5 12.5h8.5M2.3 3.5h.1M2.3 8h.1M2.3 12.5h.1"/>`,
	"policies":  `<circle cx="8" cy="8" r="6.25"/><path d="M8 4.5V8l2.5 1.8"/>`,
	"settings":  `<path d="M2 4.5h6.5M12.5 4.5H14M2 11.5h1.5M7.5 11.5H14"/><circle cx="10.5" cy="4.5" r="1.9"/><circle cx="5.5" cy="11.5" r="1.9"/>`,
	"theme":     `<circle cx="8" cy="8" r="6.25"/><path class="solid" d="M8 1.75a6.25 6.25 0 0 1 0 12.5z"/>`,
	"menu":      `<path d="M2 4h12M2 8h12M2 12h12"/>`,
	"search":    `<circle cx="7" cy="7" r="4.5"/><path d="M10.5 10.5 14 14"/>`,
	"out":       `<path d="M6 2.5H3v11h3M10.5 5l3 3-3 3M13 8H6.5"/>`,
	"right":     `<path d="M6 3.5 10.5 8 6 12.5"/>`,
	"left":      `<path d="M10 3.5 5.5 8 10 12.5"/>`,
	"up":        `<path d="M4 10l4-4 4 4"/>`,
	"down":      `<path d="M4 6l4 4 4-4"/>`,
	"close":     `<path d="M4 4l8 8M12 4l-8 8"/>`,
	"appliance": `<rect x="1.5" y="4.5" width="13" height="7" rx="1.5"/><path d="M4.2 8h.1M7 8h5"/>`,
}

// icon is a shape as SVG; the text beside it says the same, so it is hidden
// from those who listen.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">` + shapes[name] + `</svg>`)
}
