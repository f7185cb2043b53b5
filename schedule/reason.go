package schedule

import (
	"errors"
	"strings"

	"snapferry/transfer"
)

// Reasoned is an error that knows its reason better than its text tells.
type Reasoned interface{ Reason() Reason }

// ReasonOf is the reason of a run's error; "" for none. An error that is
// Reasoned says itself. Else the text decides, which packages vsphere and ebs
// word: the cause before the deed, since a disk that cannot be attached because
// vCenter is away is vCenter's trouble. Of several errors joined (disks fail
// side by side) the first that tells something counts.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	var known Reasoned
	if errors.As(err, &known) {
		return known.Reason()
	}
	if transfer.KindOf(err) == transfer.Canceled {
		return ReasonRetry
	}
	text := err.Error()
	for _, c := range causes {
		for _, s := range c.says {
			if says(text, s) {
				return c.reason
			}
		}
	}
	if r := reasonOfDeeds(err); r != "" {
		return r
	}
	if transfer.KindOf(err) == transfer.Retry {
		return ReasonRetry
	}
	return ReasonOther
}

// says reports whether text has the parts of a pattern, which stars divide, one
// behind the other.
func says(text, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "*") {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// causes are what the other packages' errors say, the sharper before the
// broader. They come from vsphere/{fault,faults,config,session,space,
// eligibility}.go, vsphere/hotadd/{check,attach}.go and ebs/{classify,codes,
// client}.go.
var causes = []struct {
	reason Reason
	says   []string
}{
	{ReasonVCenterAuth, []string{
		"vCenter does not accept the user name or the password", "the vCenter user lacks the privilege",
		"no user name is set", "the session has ended and a new one ended at once",
	}},
	{ReasonAWSAuth, []string{
		"the AWS credentials have expired", "AWS does not accept the credentials", "AWS does not accept the signature",
		"no AWS credentials could be had", "these credentials do not permit it", "the KMS key",
		"get AWS credentials:", "the account may not use this region or service", "this machine's clock is wrong",
	}},
	{ReasonThrottled, []string{
		"AWS throttled", "too many requests", "the account's limit of pending snapshots is reached", "a service quota is used up",
	}},
	{ReasonDatastore, []string{
		"datastore * MiB free, less than the * that a VM snapshot should find", "the datastore * is full",
	}},
	{ReasonNoReach, []string{
		"does not see the datastore of the disk", "the VM belongs to another vCenter than the appliance",
		"the VM is in datacenter *, the appliance in ", "the disk is on vSAN * and the appliance is not",
	}},
	{ReasonObstacle, []string{
		"HotAdd cannot attach", "removing the snapshot would stun the VM", "disks need consolidation after an earlier",
	}},
	{ReasonVCenter, []string{
		"vCenter cannot be reached", "vCenter gave no answer in time", "connect to vCenter ", "log in to vCenter ",
		"cannot be resolved:",
	}},
	{ReasonAWS, []string{
		"the endpoint cannot be reached", "the connection broke or no answer came", "the service had an error of its own",
		"the server's certificate", "the server does not speak TLS", "the answer cannot be read", "the block arrived too slowly",
		"the block arrived damaged", "the proxy wants a password",
	}},
}

// deeds are what was attempted, by how the operation begins. "replicate app01"
// is an obstacle only if it stays: another cycle that still runs does not.
var deeds = []struct {
	reason Reason
	begins []string
}{
	{ReasonAttach, []string{"attach ", "detach ", "open ", "list attached disks", "use VM ", "find the appliance in vCenter"}},
	{ReasonSnapshot, []string{"freeze ", "remove VM snapshot ", "consolidate", "list our VM snapshots", "list our snapshots"}},
	{ReasonObstacle, []string{"replicate ", "exclude disk "}},
}

// reasonOfDeeds looks at the operations in an error's tree.
func reasonOfDeeds(err error) Reason {
	if e, ok := err.(*transfer.Error); ok {
		for _, d := range deeds {
			for _, prefix := range d.begins {
				if strings.HasPrefix(e.Op, prefix) && (d.reason != ReasonObstacle || e.Kind == transfer.Permanent) {
					return d.reason
				}
			}
		}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return reasonOfDeeds(u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range u.Unwrap() {
			if r := reasonOfDeeds(inner); r != "" {
				return r
			}
		}
	}
	return ""
}

// stays reports that a failure for this reason comes again until somebody does
// something.
func (r Reason) stays() bool {
	switch r {
	case ReasonVCenterAuth, ReasonAWSAuth, ReasonObstacle, ReasonNoReach, ReasonAttempts:
		return true
	}
	return false
}
