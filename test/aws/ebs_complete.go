package aws

import (
	"time"
)

// completeOutput is the body of CompleteSnapshot.
type completeOutput struct{ Status string }

func (c *call) completeSnapshot() (*reply, *apiError) {
	h := c.r.Header
	raw := h.Get("X-Amz-Changedblockscount")
	if raw == "" {
		return nil, requiredMember("changedBlocksCount")
	}
	count, err := modelInt(raw, "changedBlocksCount", 0, 0, 1<<31-1)
	if err != nil {
		return nil, err
	}
	sum := h.Get("X-Amz-Checksum")
	if err := checkAggregate(sum, h.Get("X-Amz-Checksum-Algorithm"), h.Get("X-Amz-Checksum-Aggregation-Method")); err != nil {
		return nil, err
	}
	e, now := c.e, c.e.now()
	s := e.lookup(c.path.snapshot)
	if s == nil || s.owner != e.opt.AccountID {
		return nil, notFound(c.path.snapshot)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(e.store, now)
	if s.state == statePending && !s.sealed {
		s.seal(e.opt, now, int(count), sum, c.lie)
		// The first answer is pending even where completion takes no time.
		return ebsReply(202, completeOutput{statePending}), nil
	}
	return ebsReply(202, completeOutput{s.state}), nil
}

// seal ends writing and decides how the snapshot will end; s.mu is held.
func (s *snapshot) seal(o Options, now time.Time, count int, sum, lie string) {
	s.sealed = true
	switch {
	case lie == LieLateError:
		s.failure = messageChecksum
	case count != s.layer.count():
		s.failure = messageCount
	case sum != "" && sum != linearChecksum(s.layer):
		s.failure = messageChecksum
	}
	s.never = lie == LieNeverCompletes
	s.settleAt = now.Add(o.CompletionDelay)
	if s.failure != "" {
		s.settleAt = now.Add(o.LateErrorDelay)
	}
}

// checkAggregate wants all three checksum headers or none.
func checkAggregate(sum, algorithm, method string) *apiError {
	if sum == "" && algorithm == "" && method == "" {
		return nil
	}
	switch {
	case sum == "":
		return invalid("INVALID_PARAMETER_VALUE", "Invalid parameter combination. Snapshot checksum is missing.")
	case algorithm == "":
		return invalid("INVALID_PARAMETER_VALUE", "Invalid parameter combination. Checksum algorithm is missing.")
	case method == "":
		return invalid("INVALID_PARAMETER_VALUE", "Invalid parameter combination. Checksum aggregation method is missing.")
	case len(sum) > 64:
		return modelError(sum, "checksum", "Member must have length less than or equal to 64")
	case !base64Pattern.MatchString(sum):
		return modelError(sum, "checksum", "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$")
	case algorithm != algorithmSHA256:
		return invalid("INVALID_PARAMETER_VALUE", "Unsupported Checksum Algorithm '%s', supported algorithms are SHA256", algorithm)
	case method != "LINEAR":
		return invalid("INVALID_PARAMETER_VALUE", "Unsupported Checksum Aggregation Method '%s', supported methods are LINEAR", method)
	}
	return nil
}
