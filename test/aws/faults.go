package aws

import (
	"fmt"
	"strings"

	"snapferry/test/fault"
)

// Lies, the Detail of a fault of kind Lie, by the operations that can tell them.
const (
	// LieLateError: CompleteSnapshot is accepted, the snapshot ends in error.
	LieLateError = "late-error"
	// LieNeverCompletes: CompleteSnapshot is accepted, the snapshot stays pending.
	LieNeverCompletes = "never-completes"
	// LieDropped: PutSnapshotBlock answers 201 and keeps nothing.
	LieDropped = "dropped"
	// LieWrongBlock: GetSnapshotBlock answers zeros with their own checksum.
	LieWrongBlock = "wrong-block"
	// LieEmptyPage: a listing answers nothing but a page token.
	LieEmptyPage = "empty-page"
	// LieStale: DescribeSnapshots shows the snapshot IDs it is asked for as
	// pending still.
	LieStale = "stale"
	// LieNoBoot: RunInstances and StartInstances start a guest that never comes
	// up: it runs, its instance status is impaired, its console shows a panic.
	LieNoBoot = "no-boot"
	// LieBadHost: the same, with the system status impaired as well.
	LieBadHost = "bad-host"
	// LieStuck: StopInstances and DetachVolume never get there, except by force.
	LieStuck = "stuck"

	// lieFailure is what a TaskFault becomes: the call is accepted, and what it
	// began fails.
	lieFailure = "failure"
)

var lies = map[string][]string{
	opComplete:          {LieLateError, LieNeverCompletes},
	opPut:               {LieDropped},
	opGet:               {LieWrongBlock},
	opList:              {LieEmptyPage},
	opChanged:           {LieEmptyPage},
	"DescribeSnapshots": {LieStale},
	"RunInstances":      {LieNoBoot, LieBadHost},
	"StartInstances":    {LieNoBoot, LieBadHost},
	"StopInstances":     {LieStuck},
	"DetachVolume":      {LieStuck},
}

// canFail are the calls of EC2 that begin something which may fail later.
var canFail = map[string]bool{
	"RegisterImage": true, "RunInstances": true, "StartInstances": true, "CreateVolume": true, "ModifyVolume": true,
	"CreateReplaceRootVolumeTask": true, "ImportImage": true,
}

// play does what a fired rule says before the operation. ended means that the
// call is over with rep as its answer.
func (c *call) play() (rep *reply, ended bool) {
	switch c.rule.Kind {
	case fault.Cut:
		return nil, true
	case fault.Stall:
		return c.stall()
	case fault.Throttle:
		return c.fail(c.throttled(c.rule.Detail)), true
	case fault.DeadSession:
		c.e.ExpireCredentials()
		return c.fail(c.expiredToken()), true
	case fault.Error:
		if err := c.namedError(c.rule.Detail); err != nil {
			return c.fail(err), true
		}
		return c.unplayable(), true
	case fault.LostAnswer:
		return nil, false
	case fault.WrongBytes:
		if c.op == opPut || c.op == opGet {
			c.wrongBytes = true
			return nil, false
		}
	case fault.TaskFault:
		if c.op == opComplete {
			c.lie = LieLateError
			return nil, false
		}
		if c.service == serviceEC2 && canFail[c.op] {
			c.lie = lieFailure
			return nil, false
		}
	case fault.Lie:
		for _, l := range lies[c.op] {
			if l == c.rule.Detail {
				c.lie = l
				return nil, false
			}
		}
	}
	return c.unplayable(), true
}

func (c *call) stall() (rep *reply, ended bool) {
	if c.rule.Delay > 0 {
		return nil, !c.wait(c.rule.Delay)
	}
	select {
	case <-c.r.Context().Done():
	case <-c.e.closed:
	}
	return nil, true
}

// unplayable refuses a rule in the answer, as an error that no client retries,
// and in Misuse.
func (c *call) unplayable() *reply {
	text := fmt.Sprintf("the fault rule %q (%s %q) cannot be played on %s", c.rule.Name, c.rule.Kind, c.rule.Detail, c.op)
	c.e.mu.Lock()
	c.e.misuse = append(c.e.misuse, text)
	c.e.mu.Unlock()
	return c.fail(&apiError{status: 400, code: "ValidationException", message: text})
}

// throttled is the service's "slow down".
func (c *call) throttled(reason string) *apiError {
	switch c.service {
	case serviceEBS:
		if reason == "" {
			reason = "ACCOUNT_THROTTLED"
		}
		return &apiError{status: 400, code: "RequestThrottledException", message: "Rate exceeded", reason: reason}
	case serviceSSM:
		return &apiError{status: 400, code: "ThrottlingException", message: "Rate exceeded"}
	case serviceSTS:
		return &apiError{status: 400, code: "Throttling", message: "Rate exceeded"}
	}
	return &apiError{status: 503, code: "RequestLimitExceeded", message: "Request limit exceeded."}
}

// ebsStatus has the HTTP status of each error code of EBS direct.
var ebsStatus = map[string]int{
	"AccessDeniedException": 403, "ConcurrentLimitExceededException": 400, "ConflictException": 409,
	"InternalServerException": 500, "RequestThrottledException": 400, "ResourceNotFoundException": 404,
	"ServiceQuotaExceededException": 402, "ValidationException": 400, "ServiceUnavailableException": 503,
	"InvalidSignatureException": 403, "ExpiredTokenException": 403, "UnrecognizedClientException": 403,
	"ThrottlingException": 400, "SlowDown": 503,
}

// ec2Status has the status of EC2 error codes that are not 400.
var ec2Status = map[string]int{
	"RequestLimitExceeded": 503, "InternalError": 500, "InternalFailure": 500, "Unavailable": 503, "ServiceUnavailable": 503,
	"UnauthorizedOperation": 403, "InsufficientInstanceCapacity": 500, "InsufficientHostCapacity": 500, "AuthFailure": 401, "DryRunOperation": 412,
}

// namedError makes the error that the Detail of a fault names: a code, a code
// and a reason ("ValidationException:WRITE_REQUEST_TIMEOUT"), "overload" (503),
// or for EC2 and STS any code; nil if EBS has no such code.
func (c *call) namedError(detail string) *apiError {
	code, reason, _ := strings.Cut(detail, ":")
	if c.service != serviceEBS {
		if code == "" {
			return nil
		}
		if code == "overload" {
			code = "Unavailable"
		}
		status := ec2Status[code]
		if status == 0 {
			status = 400
		}
		return &apiError{status: status, code: code, message: "The emulator was told to fail."}
	}
	if code == "overload" {
		return &apiError{status: 503, code: "InternalServerException", message: "The service is overloaded."}
	}
	status := ebsStatus[code]
	if status == 0 {
		return nil
	}
	return &apiError{status: status, code: code, reason: reason, message: "The emulator was told to fail."}
}
