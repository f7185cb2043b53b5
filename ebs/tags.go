package ebs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"snapferry/transfer"
)

// tagPrefix is our name space. A snapshot that carries tagVersion is ours;
// nothing else proves that.
const (
	tagPrefix   = "snapferry:"
	tagVersion  = tagPrefix + "version"
	versionHere = "1"

	tagAppliance = tagPrefix + "appliance"
	tagVCenter   = tagPrefix + "vcenter"
	tagVM        = tagPrefix + "vm" // moref
	tagVMName    = tagPrefix + "vm-name"
	tagVMUUID    = tagPrefix + "vm-uuid"
	tagGuest     = tagPrefix + "guest" // JSON
	tagCycle     = tagPrefix + "cycle"
	tagFrozen    = tagPrefix + "frozen"
	tagQuiesced  = tagPrefix + "quiesced"
	tagConfirmed = tagPrefix + "confirmed"
	tagDisk      = tagPrefix + "disk" // key/uuid
	tagDiskLabel = tagPrefix + "disk-label"
	tagDiskSize  = tagPrefix + "disk-size"
	tagOrdinal   = tagPrefix + "ordinal"  // "1/3"
	tagExcluded  = tagPrefix + "excluded" // JSON, goes on in excluded-2 …
	tagChangeID  = tagPrefix + "change-id"
	tagParent    = tagPrefix + "parent"
	tagKind      = tagPrefix + "kind"
	tagReason    = tagPrefix + "reason"
	tagConverts  = tagPrefix + "converts" // the cycle of a point, of conversions only
	tagZeros     = tagPrefix + "zeros-absent"
	tagRoot      = tagPrefix + "root"
	tagBlocks    = tagPrefix + "blocks"
	tagSuspect   = tagPrefix + "suspect"
	tagName      = "Name" // the one that the AWS console shows
)

const (
	// maxValue is in bytes. AWS counts characters in one place and does not
	// say what it counts in another; bytes are safe everywhere.
	maxValue = 255
	maxTags  = 50
	maxKey   = 127
	// spareTags are kept free of the user's, for what a later version records
	// on finished snapshots.
	spareTags = 2
)

// lateTags are written after the start, so that room is kept for them.
var lateTags = []string{tagConfirmed, tagChangeID, tagRoot, tagBlocks, tagSuspect, tagVerified, tagInUse}

// encodeLabel turns a label and the user's own tags into the tags of a new
// snapshot. What only people read is cut to fit; an ID that does not fit is an
// error. The same label gives the same tags, always.
func encodeLabel(l transfer.Label, user map[string]string) (map[string]string, error) {
	e := encoder{tags: map[string]string{tagVersion: versionHere}}
	e.id(tagAppliance, string(l.Appliance), true)
	e.id(tagVCenter, l.VM.VCenter, true)
	e.id(tagVM, l.VM.Moref, true)
	e.text(tagVMName, l.VMName)
	e.id(tagVMUUID, l.VMUUID, false)
	e.json(tagGuest, l.Guest)
	e.id(tagCycle, string(l.Cycle), true)
	e.time(tagFrozen, l.Frozen, true)
	e.set(tagQuiesced, strconv.FormatBool(l.Quiesced))
	e.time(tagConfirmed, l.Confirmed, false)
	e.disk(l.Disk)
	e.text(tagDiskLabel, l.DiskLabel)
	e.number(tagDiskSize, l.DiskSize, 1)
	e.ordinal(l.Ordinal, l.Of)
	e.list(tagExcluded, l.Excluded)
	e.id(tagChangeID, string(l.ChangeID), false)
	e.id(tagParent, string(l.Parent), false)
	e.kind(l.Kind)
	e.converts(l)
	e.text(tagReason, l.Reason)
	e.set(tagZeros, strconv.FormatBool(l.ZerosAbsent))
	if l.Root != nil {
		e.set(tagRoot, l.Root.String())
	}
	if l.Suspect != "" {
		e.text(tagSuspect, l.Suspect)
	}
	if l.Blocks >= 0 {
		e.number(tagBlocks, l.Blocks, 0)
	}
	e.set(tagName, displayName(l))
	e.user(user)
	if e.err != nil {
		return nil, e.err
	}
	return e.tags, nil
}

// encoder collects tags and the first error.
type encoder struct {
	tags map[string]string
	err  error
}

func (e *encoder) fail(tag, format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("tag %s: %w", tag, fmt.Errorf(format, args...))
	}
}

func (e *encoder) set(tag, v string) { e.tags[tag] = v }

// id sets a value that must come back exactly as it is.
func (e *encoder) id(tag, v string, required bool) {
	if v == "" && !required {
		return
	}
	if err := checkID(v); err != nil {
		e.fail(tag, "%w", err)
		return
	}
	e.set(tag, v)
}

// checkID refuses what a tag would not give back, or a person could not see.
func checkID(v string) error {
	switch {
	case v == "":
		return errors.New("it is empty")
	case len(v) > maxValue:
		return fmt.Errorf("%d bytes do not fit into a tag of %d", len(v), maxValue)
	case !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl):
		return fmt.Errorf("%q holds bytes that are not text", cut(v, 64))
	case strings.TrimSpace(v) != v:
		return fmt.Errorf("%q begins or ends with a space", v)
	}
	return nil
}

// text sets a value for people: cleaned, cut, left out if nothing is left.
func (e *encoder) text(tag, v string) {
	if v = cut(printable(v), maxValue); v != "" {
		e.set(tag, v)
	}
}

// printable makes text safe for JSON and XML: valid UTF-8, no control
// characters, no spaces at the ends.
func printable(v string) string {
	v = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\ufffe' || r == '\uffff' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(v, "\ufffd"))
	return strings.TrimSpace(v)
}

// cut shortens text to n bytes at a rune boundary and shows that it did.
func cut(v string, n int) string {
	const mark = "…"
	if len(v) <= n {
		return v
	}
	return v[:runeBoundary(v, n-len(mark))] + mark
}

// runeBoundary is the largest i <= n at which a rune of v starts.
func runeBoundary(v string, n int) int {
	for n > 0 && !utf8.RuneStart(v[n]) {
		n--
	}
	return n
}

// formatTime keeps nanoseconds, since vCenter's instants have fractions.
func formatTime(t time.Time) (string, error) {
	if y := t.UTC().Year(); y < 1 || y > 9999 {
		return "", fmt.Errorf("year %d cannot be written", y)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

func (e *encoder) time(tag string, t time.Time, required bool) {
	if t.IsZero() {
		if required {
			e.fail(tag, "the instant is not known")
		}
		return
	}
	v, err := formatTime(t)
	if err != nil {
		e.fail(tag, "%w", err)
		return
	}
	e.set(tag, v)
}

func (e *encoder) number(tag string, n, least int64) {
	if n < least {
		e.fail(tag, "%d is less than %d", n, least)
		return
	}
	e.set(tag, strconv.FormatInt(n, 10))
}

func (e *encoder) disk(d transfer.DiskID) {
	if d.UUID == "" {
		e.fail(tagDisk, "disk %d has no UUID", d.Key)
		return
	}
	e.id(tagDisk, d.String(), true)
}

func (e *encoder) ordinal(n, of int) {
	if n < 1 || n > of {
		e.fail(tagOrdinal, "disk %d of %d cannot be", n, of)
		return
	}
	e.set(tagOrdinal, fmt.Sprintf("%d/%d", n, of))
}

func (e *encoder) kind(k transfer.PlanKind) {
	if !knownKind(k) {
		e.fail(tagKind, "%q is no plan", k)
		return
	}
	e.set(tagKind, string(k))
}

func knownKind(k transfer.PlanKind) bool {
	return k == transfer.Seed || k == transfer.Delta || k == transfer.Compare || k == transfer.Conversion
}

// converts refuses a conversion of nobody knows what, and what says that it
// converts a point without being a conversion: the one would be taken for
// nothing, the other for a disk of the point.
func (e *encoder) converts(l transfer.Label) {
	if err := checkConverts(l); err != nil {
		e.fail(tagConverts, "%w", err)
		return
	}
	e.id(tagConverts, string(l.Converts), false)
}

func checkConverts(l transfer.Label) error {
	switch {
	case l.Kind == transfer.Conversion && (l.Converts == "" || l.Parent == ""):
		return errors.New("a conversion must name the point and the snapshot that it was made from")
	case l.Kind != transfer.Conversion && l.Converts != "":
		return fmt.Errorf("a %s converts no point", l.Kind)
	}
	return nil
}

// json sets a small object in one tag.
func (e *encoder) json(tag string, v any) {
	text, err := compactJSON(v)
	if err != nil || len(text) > maxValue {
		e.fail(tag, "%d bytes of JSON do not fit into a tag: %v", len(text), err)
		return
	}
	e.set(tag, text)
}

func compactJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // labels such as "data & logs" stay readable
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// list spreads a JSON array over tag, tag-2, tag-3 …; none for an empty list.
func (e *encoder) list(tag string, items []string) {
	if len(items) == 0 {
		return
	}
	for _, item := range items {
		if !utf8.ValidString(item) {
			e.fail(tag, "%q is not text", item)
			return
		}
	}
	text, err := compactJSON(items)
	if err != nil {
		e.fail(tag, "%w", err)
		return
	}
	for n := 1; text != ""; n++ {
		end := listBreak(text)
		e.set(listTag(tag, n), text[:end])
		text = text[end:]
	}
}

// listBreak is where a value of a list ends: at a rune boundary and, where the
// text allows, not beside a space, which not every tool keeps at a value's end.
func listBreak(text string) int {
	if len(text) <= maxValue {
		return len(text)
	}
	most := runeBoundary(text, maxValue)
	for end := most; end > maxValue/2; end = runeBoundary(text, end-1) {
		if text[end-1] != ' ' && text[end] != ' ' {
			return end
		}
	}
	return most
}

func listTag(tag string, n int) string {
	if n == 1 {
		return tag
	}
	return tag + "-" + strconv.Itoa(n)
}

// user adds the user's own tags; a Name of theirs wins over ours.
func (e *encoder) user(tags map[string]string) {
	for _, k := range sortedKeys(tags) {
		if err := checkUserTag(k, tags[k]); err != nil {
			e.fail(strconv.Quote(k), "%w", err)
			return
		}
		e.set(k, tags[k])
	}
	n := len(e.tags) + spareTags
	for _, late := range lateTags {
		if _, ok := e.tags[late]; !ok {
			n++
		}
	}
	if n > maxTags {
		e.fail("list", "%d tags are needed and AWS takes %d: give fewer of your own, or exclude fewer disks", n, maxTags)
	}
}

// CheckUserTag says why a tag cannot be given to snapshots; nil if it can.
func CheckUserTag(key, value string) error {
	if err := checkUserTag(key, value); err != nil {
		return refuse(fmt.Sprintf("use tag %q", key), "%w", err)
	}
	return nil
}

func checkUserTag(k, v string) error {
	lower := strings.ToLower(k)
	switch {
	case k == "" || utf8.RuneCountInString(k) > maxKey:
		return fmt.Errorf("a key has 1 to %d characters", maxKey)
	case strings.HasPrefix(lower, "aws:"):
		return errors.New("keys that begin with aws: belong to AWS")
	case strings.HasPrefix(lower, tagPrefix):
		return fmt.Errorf("keys that begin with %s are our own", tagPrefix)
	case utf8.RuneCountInString(v) > maxValue:
		return fmt.Errorf("a value has at most %d characters", maxValue)
	case printable(k) != k || printable(v) != v:
		return errors.New("control characters, invalid UTF-8 and spaces at the ends do not survive in a tag")
	}
	return nil
}

// displayName is "<vm> <disk label> <cycle>"; where that is too long, the VM's
// name gives way first, since the cycle tells the points apart.
func displayName(l transfer.Label) string {
	tail := " " + cut(printable(l.DiskLabel), 80) + " " + string(l.Cycle)
	vm := printable(l.VMName)
	if vm == "" {
		vm = l.VM.Moref
	}
	if room := maxValue - len(tail); room > len("…") {
		vm = cut(vm, room)
	}
	return cut(strings.Join(strings.Fields(vm+tail), " "), maxValue)
}

// sealTags are written just before a draft is completed. Root is written even
// where it is not known: an earlier, broken attempt may have left another.
func sealTags(seal transfer.Seal) map[string]string {
	root := ""
	if seal.Root != nil {
		root = seal.Root.String()
	}
	return map[string]string{tagBlocks: strconv.FormatInt(seal.Blocks, 10), tagRoot: root}
}

// confirmTags are what Confirm writes.
func confirmTags(at time.Time, change transfer.ChangeID) (map[string]string, error) {
	text, err := formatTime(at)
	if err == nil && change != "" {
		err = checkID(string(change))
	}
	return map[string]string{tagConfirmed: text, tagChangeID: string(change)}, err
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
