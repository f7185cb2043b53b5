package ebs

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"snapferry/transfer"
)

// decodeLabel reads a label back. Anybody may have changed the tags: every
// value is checked, and an error names the tag. Tags of our prefix that are not
// known are left alone, since a later version of the same format may add some.
func decodeLabel(tags map[string]string) (transfer.Label, error) {
	d := decoder{tags: tags}
	if v := tags[tagVersion]; v != versionHere {
		return transfer.Label{}, fmt.Errorf("tag %s is %q, this program reads %q", tagVersion, cut(v, 32), versionHere)
	}
	l := transfer.Label{
		Appliance:   transfer.ApplianceID(d.id(tagAppliance, true)),
		VM:          transfer.VMID{VCenter: d.id(tagVCenter, true), Moref: d.id(tagVM, true)},
		VMName:      d.text(tagVMName),
		VMUUID:      d.id(tagVMUUID, false),
		Guest:       d.guest(),
		Cycle:       transfer.CycleID(d.id(tagCycle, true)),
		Frozen:      d.time(tagFrozen, true),
		Quiesced:    d.bool(tagQuiesced),
		Confirmed:   d.time(tagConfirmed, false),
		Disk:        d.disk(),
		DiskLabel:   d.text(tagDiskLabel),
		DiskSize:    d.number(tagDiskSize, 1, transfer.MaxVolumeGiB*transfer.GiB),
		Excluded:    d.list(tagExcluded),
		ChangeID:    transfer.ChangeID(d.id(tagChangeID, false)),
		Parent:      d.snapshot(tagParent),
		Kind:        d.kind(),
		Converts:    transfer.CycleID(d.id(tagConverts, false)),
		Reason:      d.text(tagReason),
		ZerosAbsent: d.bool(tagZeros),
		Root:        d.digest(tagRoot),
		Suspect:     d.text(tagSuspect),
		Blocks:      -1,
	}
	l.Ordinal, l.Of = d.ordinal()
	if tags[tagBlocks] != "" {
		l.Blocks = d.number(tagBlocks, 0, transfer.MaxVolumeGiB*transfer.BlocksPerGiB)
	}
	if d.err == nil {
		if err := checkConverts(l); err != nil {
			d.fail(tagConverts, "%w", err)
		}
	}
	if d.err != nil {
		return transfer.Label{}, d.err
	}
	return l, nil
}

// decoder reads tags and keeps the first error.
type decoder struct {
	tags map[string]string
	err  error
}

func (d *decoder) fail(tag, format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("tag %s: %w", tag, fmt.Errorf(format, args...))
	}
}

func (d *decoder) id(tag string, required bool) string {
	v := d.tags[tag]
	if v == "" && !required {
		return ""
	}
	if err := checkID(v); err != nil {
		d.fail(tag, "%w", err)
		return ""
	}
	return v
}

// text takes what people wrote for people, made safe to print.
func (d *decoder) text(tag string) string { return cut(printable(d.tags[tag]), maxValue) }

func (d *decoder) bool(tag string) bool {
	switch v := d.tags[tag]; v {
	case "true":
		return true
	case "false":
	default:
		d.fail(tag, "%q is neither true nor false", cut(v, 32))
	}
	return false
}

func (d *decoder) time(tag string, required bool) time.Time {
	v := d.tags[tag]
	if v == "" && !required {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err == nil {
		_, err = formatTime(t) // an offset may carry it out of the years
	}
	if err != nil || t.IsZero() {
		d.fail(tag, "%q is not an instant such as 2026-01-02T15:04:05Z", cut(v, 64))
		return time.Time{}
	}
	return t.UTC()
}

// integer accepts only the form that is written: no sign +, no leading zeros.
func integer(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != v {
		return 0, fmt.Errorf("%q is not a number", cut(v, 32))
	}
	return n, nil
}

func (d *decoder) number(tag string, least, most int64) int64 {
	n, err := integer(d.tags[tag])
	switch {
	case err != nil:
		d.fail(tag, "%w", err)
	case n < least || n > most:
		d.fail(tag, "%d is not between %d and %d", n, least, most)
	default:
		return n
	}
	return 0
}

func (d *decoder) disk() transfer.DiskID {
	v := d.id(tagDisk, true)
	key, uuid, ok := strings.Cut(v, "/")
	n, err := integer(key)
	if !ok || err != nil || n != int64(int32(n)) || checkID(uuid) != nil {
		d.fail(tagDisk, "%q is not a device key and a UUID", v)
		return transfer.DiskID{}
	}
	return transfer.DiskID{Key: int32(n), UUID: uuid}
}

func (d *decoder) ordinal() (n, of int) {
	a, b, _ := strings.Cut(d.tags[tagOrdinal], "/")
	x, err1 := integer(a)
	y, err2 := integer(b)
	// Far more disks than a VM can have; int32 keeps it small everywhere.
	if err1 != nil || err2 != nil || x < 1 || x > y || y != int64(int32(y)) {
		d.fail(tagOrdinal, "%q does not say which disk of how many", cut(d.tags[tagOrdinal], 32))
		return 0, 0
	}
	return int(x), int(y)
}

func (d *decoder) kind() transfer.PlanKind {
	k := transfer.PlanKind(d.tags[tagKind])
	if !knownKind(k) {
		d.fail(tagKind, "%q is no plan", cut(string(k), 32))
		return ""
	}
	return k
}

func (d *decoder) snapshot(tag string) transfer.SnapshotID {
	v := d.id(tag, false)
	if v != "" && !strings.HasPrefix(v, "snap-") {
		d.fail(tag, "%q is not a snapshot ID", cut(v, 64))
		return ""
	}
	return transfer.SnapshotID(v)
}

func (d *decoder) digest(tag string) *transfer.Digest {
	v := d.tags[tag]
	if v == "" {
		return nil
	}
	var sum transfer.Digest
	raw, err := hex.DecodeString(v)
	if err != nil || len(raw) != len(sum) || strings.ToLower(v) != v {
		d.fail(tag, "%q is not a SHA-256 digest in hexadecimal", cut(v, 80))
		return nil
	}
	copy(sum[:], raw)
	return &sum
}

func (d *decoder) guest() transfer.Guest {
	var g transfer.Guest
	if err := strictJSON(d.tags[tagGuest], &g); err != nil {
		d.fail(tagGuest, "%w", err)
		return transfer.Guest{}
	}
	if g.CPUs < 0 || g.MemoryMiB < 0 {
		d.fail(tagGuest, "%d CPUs and %d MiB cannot be", g.CPUs, g.MemoryMiB)
		return transfer.Guest{}
	}
	return g
}

// list joins tag, tag-2, tag-3 … and reads the JSON array in them.
func (d *decoder) list(tag string) []string {
	var text strings.Builder
	for n := 1; ; n++ {
		v, ok := d.tags[listTag(tag, n)]
		if !ok {
			break
		}
		text.WriteString(v)
	}
	if text.Len() == 0 {
		return nil
	}
	var items []string
	if err := strictJSON(text.String(), &items); err != nil {
		d.fail(tag, "%w", err)
		return nil
	}
	if len(items) == 0 {
		return nil
	}
	return items
}

// strictJSON reads one value, of known fields only, and nothing behind it.
func strictJSON(text string, into any) error {
	if !utf8.ValidString(text) {
		return errors.New("it is not text")
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read %q: %w", cut(text, 64), err)
	}
	if dec.More() {
		return fmt.Errorf("something follows the JSON in %q", cut(text, 64))
	}
	return nil
}
