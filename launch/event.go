package launch

import (
	"fmt"
	"time"
)

// EventKind names what happened, in names like MGN's.
type EventKind string

// The events of a job's log.
const (
	EventJobStart        EventKind = "JOB_START"
	EventJobEnd          EventKind = "JOB_END"
	EventJobFail         EventKind = "JOB_FAIL"
	EventCleanupStart    EventKind = "CLEANUP_START"
	EventCleanupEnd      EventKind = "CLEANUP_END"
	EventCleanupFail     EventKind = "CLEANUP_FAIL"
	EventPowerOffStart   EventKind = "SOURCE_SHUTDOWN_START"
	EventPowerOffEnd     EventKind = "SOURCE_SHUTDOWN_END"
	EventPowerOffFail    EventKind = "SOURCE_SHUTDOWN_FAIL"
	EventSourceOn        EventKind = "SOURCE_POWERED_ON"
	EventSnapshotStart   EventKind = "SNAPSHOT_START" // the final sync
	EventSnapshotEnd     EventKind = "SNAPSHOT_END"
	EventSnapshotFail    EventKind = "SNAPSHOT_FAIL"
	EventConversionStart EventKind = "CONVERSION_START"
	EventConversionEnd   EventKind = "CONVERSION_END"
	EventConversionFail  EventKind = "CONVERSION_FAIL"
	EventLaunchStart     EventKind = "LAUNCH_START"
	EventLaunchEnd       EventKind = "LAUNCH_END"
	EventLaunchFail      EventKind = "LAUNCH_FAIL"
	EventChecksStart     EventKind = "CHECKS_START"
	EventChecksEnd       EventKind = "CHECKS_END"
	EventChecksFail      EventKind = "CHECKS_FAIL"
	EventStepStart       EventKind = "STEP_START"
	EventStepEnd         EventKind = "STEP_END"
	EventStepFail        EventKind = "STEP_FAIL"
	EventRevertStart     EventKind = "REVERT_START"
	EventRevertEnd       EventKind = "REVERT_END"
	EventRevertFail      EventKind = "REVERT_FAIL"
	EventFinalizeStart   EventKind = "FINALIZE_START"
	EventFinalizeEnd     EventKind = "FINALIZE_END"
	EventFinalizeFail    EventKind = "FINALIZE_FAIL"
)

// Event is an entry of a job's log.
type Event struct {
	At   time.Time `json:"at"`
	Kind EventKind `json:"kind"`
	Step StepName  `json:"step,omitempty"`
	Text string    `json:"text"`
}

// maxEvents bounds the log of a job that is repeated without end: its first
// half stays, and the newest entries.
const maxEvents = 400

func (j *Job) event(e Event) {
	j.Events = append(j.Events, e)
	if n := len(j.Events); n > maxEvents {
		j.Events = append(j.Events[:maxEvents/2:maxEvents/2], j.Events[n-maxEvents/2:]...)
	}
}

// stepEvents are the kinds of a step's start, end and failure.
func stepEvents(s StepName) [3]EventKind {
	switch s {
	case StepPrevious:
		return [3]EventKind{EventCleanupStart, EventCleanupEnd, EventCleanupFail}
	case StepPowerOff:
		return [3]EventKind{EventPowerOffStart, EventPowerOffEnd, EventPowerOffFail}
	case StepFinalSync:
		return [3]EventKind{EventSnapshotStart, EventSnapshotEnd, EventSnapshotFail}
	case StepConvert:
		return [3]EventKind{EventConversionStart, EventConversionEnd, EventConversionFail}
	case StepRun:
		return [3]EventKind{EventLaunchStart, EventLaunchEnd, EventLaunchFail}
	case StepChecks:
		return [3]EventKind{EventChecksStart, EventChecksEnd, EventChecksFail}
	}
	return [3]EventKind{EventStepStart, EventStepEnd, EventStepFail}
}

// log adds an event to the job and tells the caller.
func (r *run) log(kind EventKind, step StepName, format string, args ...any) {
	e := Event{At: r.now(), Kind: kind, Step: step, Text: fmt.Sprintf(format, args...)}
	r.job.event(e)
	if r.tell != nil {
		r.tell(*r.job, e)
	}
}
