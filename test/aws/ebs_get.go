package aws

import (
	"encoding/base64"
	"strconv"
)

func (c *call) getSnapshotBlock() (*reply, *apiError) {
	n, err := modelInt(c.path.index, "blockIndex", 0, 0, 1<<31-1)
	if err != nil {
		return nil, err
	}
	token := c.r.URL.Query().Get("blockToken")
	if !tokenPattern.MatchString(token) || len(token) > 256 {
		return nil, modelError(token, "blockToken", "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$")
	}
	s, l, err := c.open(c.path.snapshot)
	if err != nil {
		return nil, err
	}
	index := int32(n)
	if _, ok := c.e.tokens.open(token, blockScope(s.id, index), c.e.now()); !ok {
		return nil, invalid("INVALID_BLOCK_TOKEN", "The block token %s is invalid.", token)
	}
	if s.encrypted {
		if err := c.kmsDenied("kms:Decrypt"); err != nil {
			return nil, err
		}
	}
	b := l.resolve(index)
	if b == nil {
		return nil, invalid("INVALID_BLOCK_TOKEN", "The block token %s is invalid.", token)
	}
	return c.blockReply(b)
}

func (c *call) blockReply(b *block) (*reply, *apiError) {
	st := c.e.store
	if c.lie == LieWrongBlock {
		b = &block{digest: zeroDigest, slot: -1}
	}
	buf := st.getBuf()
	if err := st.readAt(b, *buf, 0); err != nil {
		st.putBuf(buf)
		return nil, &apiError{status: 500, code: "InternalServerException", message: err.Error()}
	}
	if c.wrongBytes {
		(*buf)[blockSize/2] ^= 0x40
	}
	return &reply{status: 200, body: *buf, done: func() { st.putBuf(buf) }, header: map[string]string{
		"Content-Type": "application/octet-stream", "x-amz-Data-Length": strconv.Itoa(blockSize),
		"x-amz-Checksum": base64.StdEncoding.EncodeToString(b.digest[:]), "x-amz-Checksum-Algorithm": algorithmSHA256,
	}}, nil
}
