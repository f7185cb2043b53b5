package web

import (
	"encoding/json"
	"strings"

	"snapferry/schedule"
)

var jobStates = map[string]word{
	"new":        {Label: "New", Tone: "idle", Icon: "ring", Means: "It has not begun."},
	"launching":  {Label: "Launching", Tone: "info", Icon: "half"},
	"launched":   {Label: "Launched", Tone: "ok", Icon: "check", Means: "The instance was launched and has passed its checks."},
	"ending":     {Label: "Ending", Tone: "info", Icon: "half"},
	"ended":      {Label: "Ended", Tone: "idle", Icon: "square", Means: "Nothing is left of it."},
	"reverting":  {Label: "Reverting", Tone: "info", Icon: "half"},
	"reverted":   {Label: "Reverted", Tone: "warn", Icon: "clock", Means: "The instance is stopped, the source is on again."},
	"finalizing": {Label: "Finalizing", Tone: "info", Icon: "half"},
	"finalized":  {Label: "Finalized", Tone: "ok", Icon: "check", Means: "The migration has ended; the instance and its volumes stay."},
}

// jobWords is a job's state; one that failed shows so whatever it was doing.
func jobWords(j schedule.LaunchJob) word {
	w, ok := jobStates[j.State]
	if !ok {
		w = word{Label: clip(j.State, 40), Tone: "idle", Icon: "ring"}
	}
	if j.Error != "" && !j.Over {
		failed := map[string]string{"launching": "Launch failed", "launched": "Launched, with a failure", "ending": "Could not be ended", "reverting": "Revert failed", "finalizing": "Finalize failed"}
		if l := failed[j.State]; l != "" {
			w.Label = l
		}
		w.Tone, w.Icon, w.Means = "bad", "alert", ""
	}
	return w
}

func purposeWord(p string) string {
	switch p {
	case "test":
		return "Test"
	case "cutover":
		return "Cutover"
	}
	return clip(p, 40)
}

var launchActionWords = map[schedule.LaunchAction]string{
	schedule.LaunchTest: "Launch a test", schedule.LaunchTestDone: "End the test", schedule.LaunchCutover: "Cut over",
	schedule.LaunchRevert: "Revert", schedule.LaunchFinalize: "Finalize",
}

func launchActionWord(a schedule.LaunchAction) string {
	if w, ok := launchActionWords[a]; ok {
		return w
	}
	return clip(string(a), 40)
}

// nextOfCutover goes before what the state of replication asks for.
var nextOfCutover = map[schedule.Lifecycle]string{
	schedule.CuttingOver: "See under Launch how the cutover goes. One that failed can be gone on with or reverted.",
	schedule.CutOver:     "Look whether the instance does what the source did; then finalize the migration, or revert it.",
}

var launchSteps = map[string]string{
	"preflight": "Check settings and permissions", "type": "Choose an instance type", "previous": "End the earlier launch", "pre-sync": "Sync while the source runs",
	"power-off": "Shut the source down", "final-sync": "Final sync", "mark": "Keep the point's snapshots", "convert": "Convert the boot disk",
	"import": "Import by AWS", "image": "Register the image", "run": "Launch the instance", "running": "Wait until it runs", "root": "Replace the root volume",
	"data": "Attach data volumes", "tag": "Tag its volumes", "status": "EC2's status checks", "checks": "Checks", "prove": "Note that the point boots", "stop": "Stop the instance",
	"halt": "Stop the instance", "source-on": "Power the source on", "end-replication": "End the replication", "end-tests": "End tests", "clean": "Remove what is temporary",
	"prune": "Delete recovery points", "tracking": "Turn CBT off", "inventory": "List what is left",
}

func launchStepWord(s string) string {
	if w, ok := launchSteps[s]; ok {
		return w
	}
	return clip(s, 60)
}

// kindTone is the tone of an event by how its name ends: MGN's names do so.
func kindTone(kind string) string {
	switch {
	case strings.HasSuffix(kind, "_FAIL"):
		return "bad"
	case strings.HasSuffix(kind, "_END"):
		return "ok"
	case strings.HasSuffix(kind, "_START"):
		return "info"
	}
	return "idle"
}

// kindLevel is the same as a class of log lines.
func kindLevel(kind string) string {
	if kindTone(kind) == "bad" {
		return "error"
	}
	return "info"
}

// eventJob is the launch that an event is about, "" where it is about none.
func eventJob(e schedule.Event) string {
	if len(e.Data) == 0 {
		return ""
	}
	var told struct {
		Job string `json:"job"`
	}
	if json.Unmarshal(e.Data, &told) != nil {
		return ""
	}
	return told.Job
}
