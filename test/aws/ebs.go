package aws

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Operations of EBS direct.
const (
	opStart    = "StartSnapshot"
	opPut      = "PutSnapshotBlock"
	opComplete = "CompleteSnapshot"
	opList     = "ListSnapshotBlocks"
	opChanged  = "ListChangedBlocks"
	opGet      = "GetSnapshotBlock"
)

// ebsPath is what the URL path of an EBS call names.
type ebsPath struct{ snapshot, index string }

var snapshotID = regexp.MustCompile(`^snap-[0-9a-f]+$`)

// ebsRoute finds the operation of a method and path; op is "" if there is none.
func ebsRoute(method, path string) (op string, p ebsPath) {
	part := strings.Split(strings.Trim(path, "/"), "/")
	if part[0] != "snapshots" {
		return "", p
	}
	if len(part) > 1 {
		p.snapshot = part[1]
	}
	switch {
	case len(part) == 1 && method == http.MethodPost:
		return opStart, p
	case len(part) == 3 && part[1] == "completion" && method == http.MethodPost:
		return opComplete, ebsPath{snapshot: part[2]}
	case len(part) == 3 && part[2] == "blocks" && method == http.MethodGet:
		return opList, p
	case len(part) == 3 && part[2] == "changedblocks" && method == http.MethodGet:
		return opChanged, p
	case len(part) == 4 && part[2] == "blocks" && method == http.MethodPut:
		p.index = part[3]
		return opPut, p
	case len(part) == 4 && part[2] == "blocks" && method == http.MethodGet:
		p.index = part[3]
		return opGet, p
	}
	return "", p
}

// route finds the service, the operation and its subject.
func (c *call) route(sig *signature) {
	op, path := ebsRoute(c.r.Method, c.r.URL.Path)
	switch {
	case sig != nil && (sig.service == serviceEBS || sig.service == serviceEC2 || sig.service == serviceSTS || sig.service == serviceSSM):
		c.service = sig.service
	case strings.HasPrefix(c.r.URL.Path, "/snapshots"):
		c.service = serviceEBS
	default:
		c.service = serviceEC2
	}
	if c.service == serviceEBS {
		c.op, c.path, c.subject = op, path, path.snapshot
		if op == "" {
			c.op = "UnknownOperation"
		}
		return
	}
	if c.service == serviceSSM {
		c.op = ssmOp(c.r)
		return
	}
	c.params = parseParams(c.r, c.body)
	c.op, c.subject = c.params.action, c.params.subject()
	if c.op == "" {
		c.op = "UnknownOperation"
	}
}

func (c *call) doEBS() (*reply, *apiError) {
	if c.op == "UnknownOperation" {
		return nil, &apiError{status: 404, code: "UnknownOperationException"}
	}
	if err := c.ebsDenied("ebs:" + c.op); err != nil {
		return nil, err
	}
	if c.op != opStart && !validID(c.path.snapshot) {
		return nil, modelError(c.path.snapshot, "snapshotId", "Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$")
	}
	if reason := c.e.limits.check(c.op, c.path.snapshot); reason != "" {
		return nil, c.throttled(reason)
	}
	switch c.op {
	case opStart:
		return c.startSnapshot()
	case opPut:
		return c.putSnapshotBlock()
	case opComplete:
		return c.completeSnapshot()
	case opList:
		return c.listSnapshotBlocks()
	case opChanged:
		return c.listChangedBlocks()
	}
	return c.getSnapshotBlock()
}

func validID(id string) bool { return len(id) <= 64 && snapshotID.MatchString(id) }

// ebsError has the code in a header only, and every message in JSON; captured.
func ebsError(err *apiError) *reply {
	origin, key := "com.amazon.zeppelindataservice/", "Message"
	if err.validation {
		origin, key = "com.amazon.coral.validate/", "message"
	} else if ebsStatus[err.code] == 403 && err.code != "AccessDeniedException" || err.code == "UnknownOperationException" {
		origin, key = "com.amazon.coral.service/", "message"
	}
	body := map[string]string{key: err.message}
	if err.reason != "" {
		body["Reason"] = err.reason
	}
	raw, _ := json.Marshal(body)
	return &reply{status: err.status, body: raw, header: map[string]string{
		"Content-Type":     "application/json",
		"x-amzn-ErrorType": err.code + ":http://internal.amazon.com/coral/" + origin,
	}}
}

func ebsReply(status int, v any) *reply {
	raw, _ := json.Marshal(v)
	return &reply{status: status, body: raw, header: map[string]string{"Content-Type": "application/json"}}
}

// invalid is a ValidationException with a reason.
func invalid(reason, format string, args ...any) *apiError {
	return &apiError{status: 400, code: "ValidationException", reason: reason, message: fmt.Sprintf(format, args...)}
}

// modelError is a ValidationException of the request model; captured.
func modelError(value, field, constraint string) *apiError {
	return &apiError{status: 400, code: "ValidationException", validation: true,
		message: fmt.Sprintf("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, field, constraint)}
}

// notFound is the answer about a snapshot that does not exist, and about one
// that the operation may not see (yet, or any more); captured.
func notFound(id string) *apiError {
	return &apiError{status: 404, code: "ResourceNotFoundException", reason: "SNAPSHOT_NOT_FOUND",
		message: "The snapshot '" + id + "' does not exist."}
}

// modelInt parses an integer member and checks the bounds of the model; a
// missing one is def.
func modelInt(raw, field string, def, low, high int64) (int64, *apiError) {
	if raw == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(raw, 10, 32)
	switch {
	case err != nil:
		return 0, &apiError{status: 400, code: "SerializationException", message: "STRING_VALUE cannot be converted to Integer", validation: true}
	case n < low:
		return 0, modelError(raw, field, fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case n > high:
		return 0, modelError(raw, field, fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
	return n, nil
}

// requiredMember is the error for a member of the request that is missing.
func requiredMember(field string) *apiError {
	return &apiError{status: 400, code: "ValidationException", validation: true,
		message: "1 validation error detected: Value at '" + field + "' failed to satisfy constraint: Member must not be null"}
}
