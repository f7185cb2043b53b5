package aws

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// startInput is the body of StartSnapshot.
type startInput struct {
	VolumeSize       *int64
	ParentSnapshotID *string `json:"ParentSnapshotId"`
	Tags             []tag
	Description      *string
	ClientToken      *string
	Encrypted        *bool
	KmsKeyArn        *string
	Timeout          *int64
}

// startOutput has the members in the order, and with the nulls, of the service.
type startOutput struct {
	BlockSize        int
	Description      *string
	KmsKeyArn        *string
	OwnerID          string  `json:"OwnerId"`
	ParentSnapshotID *string `json:"ParentSnapshotId"`
	SnapshotID       string  `json:"SnapshotId"`
	SseType          *string
	StartTime        json.Number
	Status           string
	Tags             []tag
	VolumeSize       int64
}

// startRecord is what a client token stands for.
type startRecord struct {
	input startInput
	reply *reply
}

var kmsKeyARN = regexp.MustCompile(`^arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*$`)

// maxVolumeSize is 64 TiB, in GiB.
const maxVolumeSize = 65536

func (c *call) startSnapshot() (*reply, *apiError) {
	var in startInput
	if err := json.Unmarshal(c.body, &in); err != nil {
		return nil, &apiError{status: 400, code: "SerializationException", message: "The request body is not valid JSON of its model.", validation: true}
	}
	if err := in.checkModel(); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := c.ebsDenied("ec2:CreateTags"); err != nil {
			return nil, err
		}
	}
	e := c.e
	// Ask before taking the lock: the predicate is the test's own code.
	noDecrypt, noGenerate := e.denied("kms:Decrypt"), e.denied("kms:GenerateDataKeyWithoutPlaintext")
	e.mu.Lock()
	defer e.mu.Unlock()
	if in.ClientToken != nil {
		if was, ok := e.started[*in.ClientToken]; ok {
			if !reflect.DeepEqual(was.input, in) {
				return nil, &apiError{status: 409, code: "ConflictException", message: "Current request does not match request stored with this token."}
			}
			return was.reply, nil
		}
	}
	s, err := c.newSnapshot(&in)
	if err != nil {
		return nil, err
	}
	if s.encrypted && (noGenerate || noDecrypt && s.parentID != "") {
		return nil, kmsRefused(s.kmsKey)
	}
	rep := ebsReply(201, s.startOutput(&in))
	e.snapshots[s.id] = s
	if in.ClientToken != nil {
		e.started[*in.ClientToken] = startRecord{in, rep}
	}
	return rep, nil
}

// checkModel makes the checks that need no state.
func (in *startInput) checkModel() *apiError {
	switch {
	case in.VolumeSize == nil:
		return requiredMember("volumeSize")
	case *in.VolumeSize < 1:
		return modelError(fmt.Sprint(*in.VolumeSize), "volumeSize", "Member must have value greater than or equal to 1")
	case in.Timeout != nil && *in.Timeout < 10:
		return modelError(fmt.Sprint(*in.Timeout), "timeout", "Member must have value greater than or equal to 10")
	case in.Timeout != nil && *in.Timeout > 4320:
		return modelError(fmt.Sprint(*in.Timeout), "timeout", "Member must have value less than or equal to 4320")
	case in.Description != nil && tooLong(*in.Description, 255):
		return modelError(*in.Description, "description", "Member must have length less than or equal to 255")
	case in.ClientToken != nil && tooLong(*in.ClientToken, 255):
		return modelError(*in.ClientToken, "clientToken", "Member must have length less than or equal to 255")
	case in.ClientToken != nil && (*in.ClientToken == "" || strings.ContainsAny(*in.ClientToken, " \t\r\n")):
		return modelError(*in.ClientToken, "clientToken", `Member must satisfy regular expression pattern: ^[\S]+$`)
	case in.ParentSnapshotID != nil && !validID(*in.ParentSnapshotID):
		return modelError(*in.ParentSnapshotID, "parentSnapshotId", "Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$")
	case in.KmsKeyArn != nil && !kmsKeyARN.MatchString(*in.KmsKeyArn):
		return modelError(*in.KmsKeyArn, "kmsKeyArn", `Member must satisfy regular expression pattern: arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*`)
	case *in.VolumeSize > maxVolumeSize:
		return invalid("INVALID_VOLUME_SIZE", "Volume size %d GiB is beyond the maximum of %d GiB", *in.VolumeSize, maxVolumeSize)
	}
	return in.checkTags()
}

func (in *startInput) checkTags() *apiError {
	seen := map[string]bool{}
	for i, t := range in.Tags {
		field := fmt.Sprintf("tags.%d.member.", i+1)
		switch {
		case tooLong(t.Key, maxTagKey):
			return modelError(t.Key, field+"key", fmt.Sprintf("Member must have length less than or equal to %d", maxTagKey))
		case t.Key == "":
			return modelError(t.Key, field+"key", `Member must satisfy regular expression pattern: ^[\S\s]+$`)
		case tooLong(t.Value, maxEBSValue):
			return modelError(t.Value, field+"value", fmt.Sprintf("Member must have length less than or equal to %d", maxEBSValue))
		case reservedKey(t.Key):
			return invalid("INVALID_TAG", "Tag keys starting with 'aws:' are reserved for internal use")
		case seen[t.Key]:
			return invalid("INVALID_TAG", "Duplicate tag key '%s' specified.", t.Key)
		}
		seen[t.Key] = true
	}
	if len(in.Tags) > maxTags {
		return invalid("INVALID_TAG", "The maximum number of tags for a resource is %d.", maxTags)
	}
	return nil
}

// newSnapshot checks what depends on state and makes the draft; e.mu is held.
func (c *call) newSnapshot(in *startInput) (*snapshot, *apiError) {
	e, now := c.e, c.e.now()
	if in.ParentSnapshotID != nil && in.KmsKeyArn != nil {
		return nil, invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and KmsKeyArn cannot be specified together")
	}
	if in.ParentSnapshotID != nil && in.Encrypted != nil {
		return nil, invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypt cannot be specified together")
	}
	if in.KmsKeyArn != nil && in.Encrypted != nil && !*in.Encrypted {
		return nil, invalid("INVALID_PARAMETER_VALUE", "Encrypt cannot be false when KmsKeyArn is specified")
	}
	s := &snapshot{
		id: newID("snap"), owner: e.opt.AccountID, size: *in.VolumeSize, started: now.Truncate(time.Millisecond),
		timeout: time.Hour, state: statePending, lastWrite: now, inflight: map[int32]bool{},
	}
	s.rootID = s.id
	if in.Description != nil {
		s.description = *in.Description
	}
	if in.Timeout != nil {
		s.timeout = time.Duration(*in.Timeout) * time.Minute
	}
	for _, t := range in.Tags {
		s.tags.set(t.Key, t.Value)
	}
	var base *layer
	var err *apiError
	if in.ParentSnapshotID != nil {
		base, err = c.adopt(s, *in.ParentSnapshotID, now)
	} else {
		err = c.chooseEncryption(s, in)
	}
	if err != nil {
		return nil, err
	}
	if e.opt.MaxPending > 0 && e.pending(now) >= e.opt.MaxPending {
		return nil, &apiError{status: 402, code: "ServiceQuotaExceededException", reason: "DEPENDENCY_SERVICE_QUOTA_EXCEEDED",
			message: "You have reached the limit of pending snapshots for this account."}
	}
	s.layer = newLayer(e.store, base)
	return s, nil
}

// adopt makes s a child of the parent, if the rules allow it; e.mu is held.
func (c *call) adopt(s *snapshot, parentID string, now time.Time) (*layer, *apiError) {
	p := c.e.snapshots[parentID]
	if p == nil || p.owner != s.owner {
		return nil, notFound(parentID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(c.e.store, now)
	switch {
	case p.state == stateError:
		return nil, notFound(parentID)
	case p.state != stateCompleted:
		return nil, invalid("INVALID_SNAPSHOT_ID", "Source snapshot (%s) is not complete.", parentID)
	case s.size < p.size:
		return nil, invalid("INVALID_VOLUME_SIZE", "Volume size %d GiB cannot be smaller than the parent snapshot's %d GiB", s.size, p.size)
	case !p.encrypted && c.e.encDefault:
		return nil, invalid("INVALID_PARAMETER_VALUE", "An unencrypted parent snapshot cannot be used when encryption by default is enabled.")
	}
	s.parentID, s.rootID, s.encrypted, s.kmsKey = p.id, p.rootID, p.encrypted, p.kmsKey
	return p.layer, nil
}

// chooseEncryption decides for a snapshot without a parent; e.mu is held.
func (c *call) chooseEncryption(s *snapshot, in *startInput) *apiError {
	e := c.e
	asked := in.Encrypted != nil && *in.Encrypted || in.KmsKeyArn != nil
	if !asked && !e.encDefault {
		return nil
	}
	s.encrypted, s.kmsKey = true, e.kmsDefault
	if in.KmsKeyArn != nil {
		s.kmsKey = *in.KmsKeyArn
		if len(e.opt.KMSKeys) > 0 && s.kmsKey != e.kmsDefault && !slices.Contains(e.opt.KMSKeys, s.kmsKey) {
			return invalid("INVALID_CUSTOMER_KEY", "The KMS key %s does not exist, is not enabled or cannot be used here", s.kmsKey)
		}
	}
	return nil
}

func kmsRefused(key string) *apiError {
	return &apiError{status: 403, code: "AccessDeniedException", reason: "DEPENDENCY_ACCESS_DENIED",
		message: "Access to the KMS key " + key + " was denied"}
}

// pending counts the account's pending snapshots; e.mu is held.
func (e *Emulator) pending(now time.Time) int {
	n := 0
	for _, s := range e.snapshots {
		if state, _ := s.stateAt(e.store, now); state == statePending {
			n++
		}
	}
	return n
}

func (s *snapshot) startOutput(in *startInput) startOutput {
	out := startOutput{
		BlockSize: blockSize, Description: in.Description, OwnerID: s.owner, ParentSnapshotID: in.ParentSnapshotID,
		SnapshotID: s.id, StartTime: epoch(s.started), Status: statePending, Tags: in.Tags, VolumeSize: s.size,
	}
	if s.encrypted {
		out.KmsKeyArn = &s.kmsKey
	}
	return out
}

// epoch is a time in seconds with milliseconds, as REST-JSON writes it.
func epoch(t time.Time) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/int(time.Millisecond)))
}
