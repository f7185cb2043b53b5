package ebs

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"iter"

	"snapferry/transfer"
)

// LinearChecksum is what CompleteSnapshot calls LINEAR: SHA-256 over the raw
// digests of every block written to the snapshot itself, ascending by index.
func LinearChecksum(digests iter.Seq[transfer.Digest]) transfer.Digest {
	h := sha256.New()
	for d := range digests {
		h.Write(d[:])
	}
	return transfer.Digest(h.Sum(nil))
}

// wireDigest is a digest as the service's headers carry it.
func wireDigest(d transfer.Digest) string { return base64.StdEncoding.EncodeToString(d[:]) }

func parseWireDigest(s string) (transfer.Digest, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != sha256.Size {
		return transfer.Digest{}, fmt.Errorf("%q is not a SHA-256 checksum in base64", s)
	}
	return transfer.Digest(raw), nil
}
