package aws

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"time"
)

var base64Pattern = regexp.MustCompile(`^[A-Za-z0-9+/=]+$`)

const algorithmSHA256 = "SHA256"

// createdBody is the empty JSON document of a PutSnapshotBlock answer.
var createdBody = []byte("{}")

func (c *call) putSnapshotBlock() (*reply, *apiError) {
	h := c.r.Header
	if err := checkPutModel(c.path.index, h.Get); err != nil {
		return nil, err
	}
	e, now := c.e, c.e.now()
	s := e.lookup(c.path.snapshot)
	if s == nil || s.owner != e.opt.AccountID || s.hidden(now, e.opt.PropagationDelay) {
		return nil, notFound(c.path.snapshot)
	}
	if s.encrypted {
		if err := c.kmsDenied("kms:GenerateDataKey"); err != nil {
			return nil, err
		}
	}
	if err := s.checkOpen(e.store, now); err != nil {
		return nil, err
	}
	if err := c.checkPut(s, h.Get); err != nil {
		return nil, err
	}
	n, _ := strconv.ParseInt(c.path.index, 10, 32)
	index, checksum := int32(n), h.Get("X-Amz-Checksum")
	if c.lie != LieDropped {
		if err := c.keep(s, index, now); err != nil {
			return nil, err
		}
	}
	return &reply{status: 201, body: createdBody, header: map[string]string{
		"Content-Type": "application/json", "x-amz-Checksum": checksum, "x-amz-Checksum-Algorithm": algorithmSHA256,
	}}, nil
}

// checkPutModel makes the checks that come before the snapshot is looked at.
func checkPutModel(index string, header func(string) string) *apiError {
	if _, err := modelInt(index, "blockIndex", 0, 0, 1<<31-1); err != nil {
		return err
	}
	if _, err := modelInt(header("X-Amz-Progress"), "progress", 0, 0, 100); err != nil {
		return err
	}
	if _, err := modelInt(header("X-Amz-Data-Length"), "dataLength", 0, -1<<31, 1<<31-1); err != nil {
		return err
	}
	checksum := header("X-Amz-Checksum")
	switch {
	case header("X-Amz-Data-Length") == "":
		return requiredMember("dataLength")
	case checksum == "":
		return requiredMember("checksum")
	case header("X-Amz-Checksum-Algorithm") == "":
		return requiredMember("checksumAlgorithm")
	case len(checksum) > 64:
		return modelError(checksum, "checksum", "Member must have length less than or equal to 64")
	case !base64Pattern.MatchString(checksum):
		return modelError(checksum, "checksum", "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$")
	}
	return nil
}

// checkPut checks the block against its headers and the snapshot's size.
func (c *call) checkPut(s *snapshot, header func(string) string) *apiError {
	length, algorithm, claimed := header("X-Amz-Data-Length"), header("X-Amz-Checksum-Algorithm"), header("X-Amz-Checksum")
	index, _ := strconv.ParseInt(c.path.index, 10, 64)
	switch {
	case len(c.body) != blockSize:
		return invalid("INVALID_PARAMETER_VALUE", "Failed to read block data")
	case length != strconv.Itoa(blockSize):
		return invalid("INVALID_BLOCK", "Block data length %s is not valid, expected %d", length, blockSize)
	case algorithm != algorithmSHA256:
		return invalid("INVALID_PARAMETER_VALUE", "Unsupported Checksum Algorithm '%s', supported algorithms are SHA256", algorithm)
	case index > s.lastIndex():
		return invalid("INVALID_BLOCK", "Block index %d is beyond the volume size extent", index)
	}
	if c.wrongBytes {
		c.body[len(c.body)/2] ^= 0x40
		c.digested = false
	}
	sum := c.sum()
	if computed := base64.StdEncoding.EncodeToString(sum[:]); computed != claimed {
		return &apiError{status: 403, code: "InvalidSignatureException",
			message: "The value passed in as x-amz-Checksum does not match the computed checksum. Computed checksum: " + computed + " expected checksum: " + claimed}
	}
	return nil
}

// keep stores the block and records it, unless the draft ended meanwhile.
func (c *call) keep(s *snapshot, index int32, now time.Time) *apiError {
	e := c.e
	if !s.begin(index) {
		return invalid("CONFLICTING_BLOCK_UPDATE", "Block index %d is being updated by another request", index)
	}
	defer s.end(index)
	b, kept, err := e.store.put(c.body, c.sum())
	if err != nil {
		return &apiError{status: 500, code: "InternalServerException", message: err.Error()}
	}
	if kept {
		c.pooled = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(e.store, now)
	if s.state != statePending || s.sealed {
		return s.closedError()
	}
	s.layer.set(index, b)
	s.lastWrite = now
	return nil
}

// begin claims a block index for one put at a time.
func (s *snapshot) begin(index int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inflight[index] {
		return false
	}
	if s.inflight == nil {
		s.inflight = map[int32]bool{}
	}
	s.inflight[index] = true
	return true
}

func (s *snapshot) end(index int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.inflight, index)
}

// checkOpen is an error unless blocks may be put.
func (s *snapshot) checkOpen(st *store, now time.Time) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(st, now)
	if s.state != statePending || s.sealed {
		return s.closedError()
	}
	return nil
}

// closedError is why a put is refused; captured. s.mu is held.
func (s *snapshot) closedError() *apiError {
	if s.state == stateError {
		return notFound(s.id)
	}
	return invalid("INVALID_SNAPSHOT_ID", "Snapshot is already completed")
}

// hidden reports whether this put hits a part of the service that has not heard
// of the snapshot yet: two of three do, within the window after the start.
func (s *snapshot) hidden(now time.Time, window time.Duration) bool {
	if !now.Before(s.started.Add(window)) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.early++
	return s.early%3 != 0
}
