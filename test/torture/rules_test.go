package torture_test

import (
	"time"

	"snapferry/test/fault"
)

// rule is one way in which a service misbehaves.
type rule struct {
	name    string
	aws     bool
	rule    fault.Rule
	skip    int    // up to so many matching calls pass, chosen each time
	verify  bool   // it is met while reading back, not in a cycle
	quiesce bool   // it is met when the guest is asked to be quiet
	hand    string // what somebody does once it fired
	slow    bool   // it costs many seconds: once a run, and not in a short one
	silent  bool   // it loses writes and says nothing: see silentLoss
}

// lengthy: meeting it may take a minute, which is how long the product waits
// for a consolidation to end by itself.
func (r rule) lengthy() bool { return r.slow || r.hand != "" }

// pause of a stall: longer than any answer takes here, shorter than the waits
// of the clients.
const pause = 200 * time.Millisecond

// catalogue lists every rule.
func catalogue() (all []rule) {
	add := func(aws bool, op string, kind fault.Kind, detail string, change func(*rule)) {
		r := rule{aws: aws, rule: fault.Rule{Op: op, Kind: kind, Detail: detail}}
		if kind == fault.Stall {
			r.rule.Delay = pause
		}
		r.name = "vcenter " + op + " " + string(kind)
		if aws {
			r.name = "aws " + op + " " + string(kind)
		}
		if detail != "" {
			r.name += " " + detail
		}
		if change != nil {
			change(&r)
		}
		r.rule.Name = r.name
		all = append(all, r)
	}
	vcenterRules(func(op string, kind fault.Kind, detail string, change func(*rule)) {
		add(false, op, kind, detail, change)
	})
	awsRules(func(op string, kind fault.Kind, detail string, change func(*rule)) {
		add(true, op, kind, detail, change)
	})
	return append(all, silentRules()...)
}

type adder func(op string, kind fault.Kind, detail string, change func(*rule))

func later(n int) func(*rule) { return func(r *rule) { r.skip = n } }

func vcenterRules(add adder) {
	wire := []fault.Kind{fault.Throttle, fault.Cut, fault.Stall, fault.LostAnswer, fault.DeadSession, fault.WrongBytes}
	for _, op := range []string{"CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task", "QueryChangedDiskAreas", "RetrievePropertiesEx", "WaitForUpdatesEx"} {
		for _, kind := range wire {
			add(op, kind, "", func(r *rule) {
				switch op {
				case "RetrievePropertiesEx", "WaitForUpdatesEx":
					r.skip = 5
				case "ReconfigVM_Task":
					r.skip = 3
				case "QueryChangedDiskAreas":
					r.skip = 1
				}
			})
		}
	}
	for _, kind := range []fault.Kind{fault.Throttle, fault.Cut, fault.LostAnswer, fault.Stall} {
		add("Login", kind, "", nil)
	}
	for _, op := range []string{"CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task"} {
		for _, detail := range []string{"TaskInProgress", "GenericVmConfigFault", "FileLocked"} {
			add(op, fault.TaskFault, detail, nil)
		}
	}
	add("CreateSnapshot_Task", fault.TaskFault, "ApplicationQuiesceFault", func(r *rule) { r.quiesce = true })
	add("CreateSnapshot_Task", fault.Lie, "quiesce-fallback", func(r *rule) { r.quiesce = true })
	add("CreateSnapshot_Task", fault.Error, "NoPermission:VirtualMachine.State.CreateSnapshot", nil)
	add("RemoveSnapshot_Task", fault.Error, "NoPermission:VirtualMachine.State.RemoveSnapshot", nil)
	add("RemoveSnapshot_Task", fault.Lie, "consolidation-needed", func(r *rule) { r.hand = "consolidate" })
	add("QueryChangedDiskAreas", fault.Error, "FileFault:[vmfs1] x/x.vmdk", nil)
	for _, lie := range []string{"over-report", "whole-disk", "empty-page", "unsorted", "outside", "gap"} {
		add("QueryChangedDiskAreas", fault.Lie, lie, nil)
	}
}

func awsRules(add adder) {
	for _, op := range []string{"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "DescribeSnapshots", "CreateTags"} {
		for _, kind := range []fault.Kind{fault.Throttle, fault.Cut, fault.Stall, fault.LostAnswer, fault.DeadSession} {
			add(op, kind, "", func(r *rule) {
				if op == "PutSnapshotBlock" {
					r.skip = 2
				}
			})
		}
	}
	add("GetEbsEncryptionByDefault", fault.Cut, "", nil)
	add("GetEbsEncryptionByDefault", fault.Error, "UnauthorizedOperation", nil)
	add("PutSnapshotBlock", fault.WrongBytes, "", nil)
	for _, detail := range []string{"overload", "InternalServerException", "ResourceNotFoundException", "AccessDeniedException", "ValidationException:WRITE_REQUEST_TIMEOUT", "ValidationException:CONFLICTING_BLOCK_UPDATE"} {
		add("PutSnapshotBlock", fault.Error, detail, later(1))
	}
	add("PutSnapshotBlock", fault.Lie, "dropped", nil)
	for _, detail := range []string{"ConcurrentLimitExceededException", "ServiceQuotaExceededException", "AccessDeniedException", "InternalServerException"} {
		add("StartSnapshot", fault.Error, detail, nil)
	}
	add("CompleteSnapshot", fault.TaskFault, "", later(1))
	add("CompleteSnapshot", fault.Error, "overload", nil)
	add("DescribeSnapshots", fault.Lie, "stale", later(1))
	add("PutSnapshotBlock", fault.Stall, "for ever", func(r *rule) { r.rule.Delay, r.rule.Detail, r.slow = 0, "", true })
	for _, kind := range []fault.Kind{fault.Throttle, fault.Cut, fault.LostAnswer, fault.Stall, fault.WrongBytes} {
		add("GetSnapshotBlock", kind, "", func(r *rule) { r.verify, r.skip = true, 1 })
	}
	add("ListSnapshotBlocks", fault.Cut, "", func(r *rule) { r.verify = true })
	add("ListSnapshotBlocks", fault.Lie, "empty-page", func(r *rule) { r.verify = true })
}
