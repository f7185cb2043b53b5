package schedule

import (
	"encoding/json"
	"time"

	"snapferry/transfer"
)

// LaunchAction is what is wanted of a VM's launches. The words are those of the
// verbs.
type LaunchAction string

// The actions.
const (
	LaunchTest     LaunchAction = "test"      // a test instance, in the place of an earlier one
	LaunchTestDone LaunchAction = "test-done" // end it
	LaunchCutover  LaunchAction = "cutover"   // or go on with one that failed
	LaunchRevert   LaunchAction = "revert"    // stop the instance, power the source on
	LaunchFinalize LaunchAction = "finalize"  // replication ends; nothing of ours is left
)

// LaunchActions lists them.
func LaunchActions() []LaunchAction {
	return []LaunchAction{LaunchTest, LaunchTestDone, LaunchCutover, LaunchRevert, LaunchFinalize}
}

// LaunchWish is how an action is wanted. What does not concern the action is
// zero.
type LaunchWish struct {
	// Settings go before those of the VM, key by key.
	Settings Launch `json:"settings,omitempty"`
	// Force of a test: in the cutover's subnet, of a suspect point; of finalize:
	// although the checks failed.
	Force bool `json:"force,omitempty"`

	Point transfer.CycleID `json:"point,omitempty"` // of a test; "" is the newest complete one
	For   Duration         `json:"for,omitempty"`   // of a test: it ends by itself after this; 0 as the settings say
	// Prove has a test end as soon as its checks have passed: the point is
	// marked as boot-proved by then.
	Prove bool `json:"prove,omitempty"`

	ForceOff    bool `json:"forceOff,omitempty"`    // of a cutover: pull the plug where the guest does not shut down in time
	SkipPreSync bool `json:"skipPreSync,omitempty"` // of a cutover: no sync before the source goes off

	Discard bool `json:"discard,omitempty"` // of a revert: the instance and its volumes go, too

	Points PointsLeft `json:"points,omitempty"` // of finalize: which points stay; "" is PointsNewest
	// StopTracking of finalize turns CBT off on the source. A backup product may
	// rely on it by now.
	StopTracking bool `json:"stopTracking,omitempty"`
}

// PointsLeft is which recovery points stay when a migration is finalized.
type PointsLeft string

// The choices.
const (
	PointsNewest PointsLeft = "newest" // the one that was launched: a way back for as long as one wants to pay for it
	PointsNone   PointsLeft = "none"
	PointsAll    PointsLeft = "all"
)

// LaunchRun is one action on one VM, from the moment it was wanted until it
// ended. A VM has at most one that has not ended.
type LaunchRun struct {
	ID      int64         `json:"id"`
	VM      transfer.VMID `json:"vm"`
	VMName  string        `json:"vmName"`
	Action  LaunchAction  `json:"action"`
	Wish    LaunchWish    `json:"wish"`
	State   RunState      `json:"state"`   // starting is not used: who takes it in hand runs it
	Trigger string        `json:"trigger"` // "user NAME", "wave NAME", "schedule"
	Wave    string        `json:"wave,omitempty"`
	Job     string        `json:"job,omitempty"` // the launch that it is about, once known
	// Before is where the VM was when the run was first taken in hand; "" until
	// then.
	Before Lifecycle `json:"before,omitempty"`

	Appliance transfer.ApplianceID `json:"appliance,omitempty"`
	// Epoch counts how often somebody took it in hand: the fence of every write.
	Epoch  int64 `json:"epoch"`
	Cancel bool  `json:"cancel,omitempty"` // was asked for

	Queued  time.Time `json:"queued"`
	Started time.Time `json:"started"` // zero before
	Ended   time.Time `json:"ended"`   // zero before
	Reason  Reason    `json:"reason,omitempty"`
	Error   string    `json:"error,omitempty"`
	Hint    string    `json:"hint,omitempty"`
}

// LaunchJob is one launch, test or cutover, as lists show it; Doc is all of it,
// in the form of package launch. Several runs work on one job: that which
// launched it, and those that ended, reverted or finalized it.
type LaunchJob struct {
	ID       string           `json:"id"`
	VM       transfer.VMID    `json:"vm"`
	VMName   string           `json:"vmName"`
	Purpose  string           `json:"purpose"` // "test", "cutover"
	State    string           `json:"state"`   // of package launch: "new", "launching", "launched", "ending", "ended", "reverting", "reverted", "finalizing", "finalized"
	Point    transfer.CycleID `json:"point,omitempty"`
	Instance string           `json:"instance,omitempty"`
	Address  string           `json:"address,omitempty"` // private IP
	Error    string           `json:"error,omitempty"`
	Hint     string           `json:"hint,omitempty"`
	Made     time.Time        `json:"made"`
	Ends     time.Time        `json:"ends,omitzero"` // of a test: when it ends by itself
	Over     bool             `json:"over"`          // nothing more happens to it: ended or finalized
	// ToLaunch and Downtime are a cutover's, once known: from the shutdown to
	// the launch call, and to the end of its checks.
	ToLaunch Duration `json:"toLaunch,omitempty"`
	Downtime Duration `json:"downtime,omitempty"`
	// Doc holds the steps and the log of events; lists leave it out.
	Doc json.RawMessage `json:"doc,omitempty"`
}

// LaunchStep is a step of a launch that is shown before it begins.
type LaunchStep struct {
	Name string `json:"name"`
	Text string `json:"text"`
	// Takes is the forecast of a cutover's step, and Basis what it is made from.
	Takes Duration `json:"takes,omitempty"`
	Basis string   `json:"basis,omitempty"`
}

// LaunchPreview is what an action would do: the dry run.
type LaunchPreview struct {
	VM      transfer.VMID    `json:"vm"`
	VMName  string           `json:"vmName"`
	Action  LaunchAction     `json:"action"`
	Point   transfer.CycleID `json:"point,omitempty"`
	Steps   []LaunchStep     `json:"steps"`
	Type    string           `json:"type,omitempty"` // of the instance
	TypeWhy string           `json:"typeWhy,omitempty"`
	Subnet  string           `json:"subnet,omitempty"`
	Notes   []string         `json:"notes,omitempty"`
	Denied  []string         `json:"denied,omitempty"`  // permissions that are missing
	Problem string           `json:"problem,omitempty"` // why it would be refused; "": it would not
	Hint    string           `json:"hint,omitempty"`
	// ToLaunch and Downtime are the forecast of a cutover, and Unknown what is
	// not in it.
	ToLaunch Duration `json:"toLaunch,omitempty"`
	Downtime Duration `json:"downtime,omitempty"`
	Unknown  []string `json:"unknown,omitempty"`
	Cost     string   `json:"cost,omitempty"` // of a test, in words
}

// LaunchWanted is a launch run that is to be queued.
type LaunchWanted struct {
	VM      transfer.VMID
	VMName  string
	Action  LaunchAction
	Wish    LaunchWish
	Trigger string
	Wave    string
}

// LaunchEnd is how a launch run ended, and what that means for its VM: both are
// written, or neither.
type LaunchEnd struct {
	At     time.Time
	State  RunState // done, failed or cancelled
	Reason Reason   // of one that failed
	Error  string
	Hint   string
	// To is where the VM goes if it is in one of From by then; "" leaves it.
	To   Lifecycle
	From []Lifecycle
}

// LaunchJobQuery chooses launches, newest first.
type LaunchJobQuery struct {
	VM     *transfer.VMID `json:"vm,omitempty"`
	Open   bool           `json:"open,omitempty"`   // only those that are not over
	Before string         `json:"before,omitempty"` // only those older than the one with this ID: the next page
	Limit  int            `json:"limit,omitempty"`  // 0 is 100; over the API at most 1000
}

// LaunchQuery chooses launch runs, newest first.
type LaunchQuery struct {
	VM     *transfer.VMID `json:"vm,omitempty"`
	Wave   string         `json:"wave,omitempty"`
	Active bool           `json:"active,omitempty"` // only those that have not ended
	Before int64          `json:"before,omitempty"` // only IDs below it: the next page
	Limit  int            `json:"limit,omitempty"`  // 0 is 50, at most 500
}
