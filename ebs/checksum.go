package ebs

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"snapferry/transfer"
)

// wireDigest is a digest as the service's headers carry it.
func wireDigest(d transfer.Digest) string { return base64.StdEncoding.EncodeToString(d[:]) }

func parseWireDigest(s string) (transfer.Digest, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != sha256.Size {
		return transfer.Digest{}, fmt.Errorf("%q is not a SHA-256 checksum in base64", s)
	}
	return transfer.Digest(raw), nil
}
