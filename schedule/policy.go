package schedule

import (
	"fmt"
	"time"

	"snapferry/transfer"
)

// Duration is a time.Duration that reads and writes as "90s", "1h30m", in YAML
// and JSON alike.
type Duration time.Duration

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is as time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes "1h0m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration such as 15m or 1h30m", text)
	}
	*d = Duration(v)
	return nil
}

// Policy says what is wanted for the VMs that it is given to. Exactly one of
// Every, Cron and Adaptive says how often.
type Policy struct {
	Name string `json:"name" yaml:"name"`

	Every    Duration  `json:"every,omitempty" yaml:"every"`
	Cron     string    `json:"cron,omitempty" yaml:"cron"` // five fields, or @hourly and its like
	Adaptive *Adaptive `json:"adaptive,omitempty" yaml:"adaptive"`
	// TimeZone is that of Cron, Blackout and Bandwidth, such as Europe/Berlin;
	// "" is UTC.
	TimeZone string `json:"timeZone,omitempty" yaml:"timeZone"`
	// Jitter spreads VMs: each is due later by its own share of it, always the
	// same. Absent is a tenth of the interval, at most ten minutes.
	Jitter *Duration `json:"jitter,omitempty" yaml:"jitter"`

	// Blackout is when no cycle starts. One that runs then goes on.
	Blackout []Window `json:"blackout,omitempty" yaml:"blackout"`
	// Bandwidth bounds what all VMs of this policy together send from one
	// appliance. Of several windows that hold the lowest counts.
	Bandwidth []Bandwidth `json:"bandwidth,omitempty" yaml:"bandwidth"`

	// Retention of its VMs' points; the zero value is transfer.DefaultPolicy.
	Retention transfer.Policy     `json:"retention,omitzero" yaml:"retention"`
	Quiesce   transfer.Quiesce    `json:"quiesce,omitempty" yaml:"quiesce"`
	Zeros     transfer.ZeroPolicy `json:"zeros,omitempty" yaml:"zeros"`
	// Reader is "hotadd", the default and so far the only one.
	Reader  string   `json:"reader,omitempty" yaml:"reader"`
	Exclude []string `json:"exclude,omitempty" yaml:"exclude"` // disks, as sync's --exclude-disk
	// Prove has the newest point of each VM launched now and then as a test,
	// checked, marked as boot-proved and torn down.
	Prove *Prove `json:"prove,omitempty" yaml:"prove"`
	// Priority: higher ones start first; 0 is the default.
	Priority int `json:"priority,omitempty" yaml:"priority"`

	// Match says which VMs get it: those that any of them fits. A policy
	// without is given by hand only.
	Match []Match `json:"match,omitempty" yaml:"match"`
}

// Prove is how often points are proved by launching them. It costs instance
// hours: where a policy is set up, the estimate is shown.
type Prove struct {
	Every Duration `json:"every" yaml:"every"` // at least a day
}

// Adaptive lets the interval follow the VM: shorter while deltas are small.
type Adaptive struct {
	Floor   Duration `json:"floor" yaml:"floor"`
	Ceiling Duration `json:"ceiling" yaml:"ceiling"`
}

// Window is a part of the week in the policy's time zone.
type Window struct {
	// Days are "mon".."sun", ranges "mon-fri" (also over the week's end,
	// "fri-mon"), commas; "" is every day. A window over midnight belongs to
	// the day on which it begins.
	Days string `json:"days,omitempty" yaml:"days"`
	From string `json:"from" yaml:"from"` // "22:00"
	To   string `json:"to" yaml:"to"`     // "06:00"; "24:00" is the day's end; the same as From is a whole day
}

// Bandwidth is a limit in a window.
type Bandwidth struct {
	Window `yaml:",inline"`
	// Limit as ParseRate reads it: "50MB/s", "400Mbit/s".
	Limit Rate `json:"limit" yaml:"limit"`
}

// Match fits a VM when everything in it that is not empty does. Name, Folder
// and Pool are patterns of path.Match, without regard to case; a Folder or Pool
// holds for what is below it too.
type Match struct {
	Name   string `json:"name,omitempty" yaml:"name"`
	Folder string `json:"folder,omitempty" yaml:"folder"` // inventory path "/DC0/vm/prod"
	Pool   string `json:"pool,omitempty" yaml:"pool"`     // "/DC0/host/C0/Resources/prod"
	Tag    string `json:"tag,omitempty" yaml:"tag"`       // "category:tag", or a tag alone in any category
	// Attribute is a custom attribute: "owner=ops", or "owner" for any value.
	Attribute string `json:"attribute,omitempty" yaml:"attribute"`
}

// PolicyRow is a policy and where it comes from.
type PolicyRow struct {
	Policy
	// Origin is "file", which only the configuration file changes, or "api".
	Origin string `json:"origin"`
	// VMs that have it now.
	VMs int `json:"vms"`
	// ProveCost is what Prove costs with the VMs that it gets, in words; "" where
	// there is no Prove or nobody can say.
	ProveCost string `json:"proveCost,omitempty"`
}
