package launch

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode"

	"snapferry/transfer"
)

// Purpose is what an instance is launched for.
type Purpose string

// The purposes.
const (
	ForTest    Purpose = "test"
	ForCutover Purpose = "cutover"
)

// JobID names one launch. It sorts by time.
type JobID string

// NewJobID returns a fresh ID.
func NewJobID(now time.Time) JobID {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (Go 1.24)
	return JobID("job-" + now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:]))
}

// Tags of ours; the prefix and the first four are those of package ebs.
const (
	tagPrefix   = "snapferry:"
	tagVersion  = tagPrefix + "version" // on all but snapshots, where it says that ebs made them
	versionHere = "1"
	tagVCenter  = tagPrefix + "vcenter"
	tagVM       = tagPrefix + "vm"
	tagLaunch   = tagPrefix + "launch" // a Purpose
	tagJob      = tagPrefix + "job"
	tagPoint    = tagPrefix + "point" // cycle
	tagKind     = tagPrefix + "kind"  // of snapshots, by ebs
	tagConverts = tagPrefix + "converts"
	tagCycle    = tagPrefix + "cycle"
	tagDisk     = tagPrefix + "launch-disk" // ordinal, of volumes
	tagEnds     = tagPrefix + "ends"        // RFC 3339, of tests
	tagReverted = tagPrefix + "reverted"    // RFC 3339, of cutover instances
	tagFinal    = tagPrefix + "finalized"   // RFC 3339, of cutover instances and their volumes: no launch of ours any more
	tagInUse    = tagPrefix + "in-use"      // job IDs, of snapshots
	tagProved   = tagPrefix + "boot-proved" // JSON, of snapshots: see Proof
	tagName     = "Name"

	// Limits of EC2's.
	maxTags     = 50
	maxTagKey   = 127 // leaves room where services count differently, as ebs does
	maxTagValue = 255
	maxToken    = 64
)

// JobTags are on everything that a launch makes.
func JobTags(j Job) map[string]string {
	tags := map[string]string{
		tagVersion: versionHere,
		tagVCenter: j.Request.VM.VCenter,
		tagVM:      j.Request.VM.Moref,
		tagLaunch:  string(j.Request.Purpose),
		tagJob:     string(j.ID),
		tagPoint:   string(j.Request.Point.Cycle),
	}
	if !j.Ends.IsZero() {
		tags[tagEnds] = stamp(j.Ends)
	}
	return tags
}

// token is the client token of a step of a job: the same for every repeat.
func (id JobID) token(step StepName, more ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{string(id), string(step)}, more...), "\x00")))
	t := fmt.Sprintf("snapferry-%s-", step)
	return (t + hex.EncodeToString(sum[:]))[:maxToken]
}

// imageName is unique for the job; EC2 allows letters, digits and ()[] ./-'@_.
func (id JobID) imageName() string { return "snapferry " + string(id) }

// printable makes text safe for tags and terminals, at most n bytes of it.
func printable(v string, n int) string {
	v = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\ufffe' || r == '\uffff' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(v, "\ufffd")))
	if len(v) <= n {
		return v
	}
	const mark = "…"
	end := 0
	for i := range v {
		if i > n-len(mark) {
			break
		}
		end = i
	}
	return strings.TrimSpace(v[:end]) + mark
}

// refuse is an error about something that cannot be done as it stands.
func refuse(what, hint, format string, args ...any) error {
	return transfer.Fail(transfer.Permanent, what, fmt.Errorf(format, args...), hint)
}
