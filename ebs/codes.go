package ebs

import (
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"snapferry/transfer"
)

// reasonOf is the Reason of an EBS direct error, which its text leaves out.
func reasonOf(err error) string {
	var (
		validation *types.ValidationException
		throttle   *types.RequestThrottledException
		denied     *types.AccessDeniedException
		missing    *types.ResourceNotFoundException
		quota      *types.ServiceQuotaExceededException
	)
	switch {
	case errors.As(err, &validation):
		return string(validation.Reason)
	case errors.As(err, &throttle):
		return string(throttle.Reason)
	case errors.As(err, &denied):
		return string(denied.Reason)
	case errors.As(err, &missing):
		return string(missing.Reason)
	case errors.As(err, &quota):
		return string(quota.Reason)
	}
	return ""
}

// codeClass groups the codes of the three services that mean the same.
type codeClass int

const (
	otherCode codeClass = iota
	throttleCode
	serverCode
	expiredCode
	credentialCode
	deniedCode
	missingCode
	quotaCode
	conflictCode
	signatureCode
	validationCode
	skewCode
	inUseCode
	optInCode
)

var codeClasses = map[string]codeClass{
	"RequestThrottledException":        throttleCode,
	"RequestThrottled":                 throttleCode,
	"ThrottlingException":              throttleCode,
	"ThrottledException":               throttleCode,
	"Throttling":                       throttleCode,
	"TooManyRequestsException":         throttleCode,
	"RequestLimitExceeded":             throttleCode,
	"SlowDown":                         throttleCode,
	"BandwidthLimitExceeded":           throttleCode,
	"EC2ThrottledException":            throttleCode,
	"PriorRequestNotComplete":          throttleCode,
	"ConcurrentLimitExceededException": throttleCode,

	"InternalServerException":     serverCode,
	"InternalServerError":         serverCode,
	"InternalError":               serverCode,
	"InternalFailure":             serverCode,
	"ServiceUnavailable":          serverCode,
	"ServiceUnavailableException": serverCode,
	"Unavailable":                 serverCode,
	"RequestTimeout":              serverCode,
	"RequestTimeoutException":     serverCode,

	"ExpiredToken":          expiredCode,
	"ExpiredTokenException": expiredCode,
	"TokenRefreshRequired":  expiredCode,
	"RequestExpired":        expiredCode, // EC2 says this of credentials and of clocks

	"UnrecognizedClientException":         credentialCode,
	"InvalidClientTokenId":                credentialCode,
	"InvalidAccessKeyId":                  credentialCode,
	"SignatureDoesNotMatch":               credentialCode,
	"IncompleteSignature":                 credentialCode,
	"MissingAuthenticationToken":          credentialCode,
	"MissingAuthenticationTokenException": credentialCode,
	"AuthFailure":                         credentialCode,

	"AccessDeniedException": deniedCode,
	"AccessDenied":          deniedCode,
	"UnauthorizedOperation": deniedCode,

	"ResourceNotFoundException": missingCode,
	"InvalidSnapshot.NotFound":  missingCode,

	"ServiceQuotaExceededException":        quotaCode,
	"SnapshotLimitExceeded":                quotaCode,
	"PendingSnapshotLimitExceeded":         quotaCode,
	"ConcurrentSnapshotLimitExceeded":      quotaCode,
	"ResourceLimitExceeded":                quotaCode,
	"TagLimitExceeded":                     otherCode,
	"ConflictException":                    conflictCode,
	"IdempotentParameterMismatch":          conflictCode,
	"InvalidSignatureException":            signatureCode,
	"ValidationException":                  validationCode,
	"RequestTimeTooSkewed":                 skewCode,
	"RequestInTheFuture":                   skewCode,
	"InvalidSnapshot.InUse":                inUseCode,
	"OptInRequired":                        optInCode,
	"OptInRequiredException":               optInCode,
	"InvalidSnapshot.InvalidSnapshotState": otherCode,
}

// classifyAPI judges an answer by its code, and by its reason and message where
// the service uses one code for several things.
func classifyAPI(f failure, code, reason, message string) verdict {
	switch codeClasses[code] {
	case throttleCode:
		return throttled(reason)
	case serverCode:
		return verdict{kind: transfer.Retry, tries: asLongAs, why: "the service had an error of its own"}
	case expiredCode:
		return verdict{kind: transfer.Permanent, tries: once, sign: credentialsEnded, why: "the AWS credentials have expired", hint: hintExpired}
	case credentialCode:
		return verdict{kind: transfer.Permanent, why: "AWS does not accept the credentials", hint: hintCredentials}
	case skewCode:
		return verdict{kind: transfer.Permanent, tries: once, why: "this machine's clock is wrong", hint: "set the clock (NTP)"}
	case deniedCode:
		return denied(f.op, reason, message)
	case missingCode:
		return missing(f, reason)
	case quotaCode:
		return overQuota(f.op)
	case conflictCode:
		return verdict{kind: transfer.Permanent, why: "the client token was used before with other parameters",
			hint: "give up the saved draft (it is deleted as a leftover) and start a new one"}
	case signatureCode:
		return badSignature(f.op)
	case validationCode:
		return invalid(f.op, reason, message)
	case inUseCode:
		return verdict{kind: transfer.Permanent, why: "the snapshot is in use by an image", hint: "deregister the AMI first"}
	case optInCode:
		return verdict{kind: transfer.Permanent, why: "the account may not use this region or service", hint: "enable the region for the account, or choose another"}
	}
	if status := statusOf(f.err); status >= 500 || status == 429 || status == 408 {
		return classifyStatus(f, status)
	}
	return verdict{kind: transfer.Permanent, why: "AWS refused the request"}
}

func throttled(reason string) verdict {
	v := verdict{kind: transfer.Retry, tries: asLongAs, sign: throttledAccount, why: "AWS throttled the account's requests",
		hint: "others may be using the account's EBS direct quota; lower the rate here or ask AWS for more"}
	if reason == string(types.RequestThrottledExceptionReasonResourceLevelThrottle) {
		v.sign, v.why = throttledSnapshot, "AWS throttled the requests for this snapshot"
	}
	return v
}

func denied(op, reason, message string) verdict {
	if reason == string(types.AccessDeniedExceptionReasonDependencyAccessDenied) || strings.Contains(strings.ToLower(message), "kms") {
		return verdict{kind: transfer.Permanent, why: "the KMS key may not be used", hint: hintKMS}
	}
	hint := "allow " + action(op) + " in the IAM policy of these credentials"
	if op == opStart {
		hint += ", and ec2:CreateTags on snapshots for ec2:CreateAction StartSnapshot"
	}
	return verdict{kind: transfer.Permanent, why: "these credentials do not permit it", hint: hint}
}

func missing(f failure, reason string) verdict {
	switch types.ResourceNotFoundExceptionReason(reason) {
	case types.ResourceNotFoundExceptionReasonDependencyResourceNotFound, types.ResourceNotFoundExceptionReasonGrantNotFound:
		return verdict{kind: transfer.Permanent, why: "the KMS key or its grant does not exist", hint: hintKMS}
	}
	return notFound(f)
}

// overQuota: a place among the pending snapshots comes free in minutes, so
// that a later cycle may start; elsewhere it is KMS that is busy.
func overQuota(op string) verdict {
	if op == opStart {
		return verdict{kind: transfer.Retry, why: "the account's limit of pending snapshots is reached", hint: hintPending}
	}
	return verdict{kind: transfer.Retry, tries: asLongAs, sign: throttledAccount, why: "a service quota is used up"}
}

// badSignature: on a put the service means the block's checksum, since a wrong
// key would not have come as far as a put.
func badSignature(op string) verdict {
	if op == opPut {
		return verdict{kind: transfer.Retry, tries: once, sign: corruptedBody, why: "the block arrived damaged",
			hint: "something between here and AWS changes bytes; if it stays, look at proxies on the way and at this machine's memory"}
	}
	return verdict{kind: transfer.Permanent, why: "AWS does not accept the signature: the secret key is not the one of the key ID", hint: hintCredentials}
}

func invalid(op, reason, message string) verdict {
	tooSlow := verdict{kind: transfer.Retry, tries: asLongAs, sign: slowBody, why: "the block arrived too slowly",
		hint: "the uplink is slower than what is sent at once; give --limit a little less than its rate"}
	if op == opPut && strings.Contains(message, "Failed to read block data") {
		return tooSlow
	}
	no := func(why, hint string) verdict { return verdict{kind: transfer.Permanent, why: why, hint: hint} }
	switch types.ValidationExceptionReason(reason) {
	case types.ValidationExceptionReasonWriteRequestTimeout:
		return tooSlow
	case types.ValidationExceptionReasonConflictingBlockUpdate:
		// An earlier attempt, whose answer got lost, is still being written.
		return verdict{kind: transfer.Retry, tries: asLongAs, why: "an earlier put of the block is still under way"}
	case types.ValidationExceptionReasonInvalidCustomerKey:
		return no("the KMS key does not exist, is disabled or of another region", "give the ARN of an enabled symmetric key of this region")
	case types.ValidationExceptionReasonInvalidBlockToken:
		return no("the block token is not valid or has expired", "")
	case types.ValidationExceptionReasonInvalidPageToken:
		return no("the page token is not valid or has expired", "")
	case types.ValidationExceptionReasonInvalidVolumeSize:
		return no("AWS refused the volume's size", "")
	case types.ValidationExceptionReasonInvalidTag:
		return no("AWS refused a tag", "check the tags of your own: 50 in all, keys to 127 characters, values to 255")
	case types.ValidationExceptionReasonInvalidSnapshotId:
		return no("the snapshot is not in a state for this, or its ID is not valid", "")
	case types.ValidationExceptionReasonInvalidDependencyRequest:
		return no("the KMS key refused the request", hintKMS)
	}
	return no("AWS refused the request", "")
}
