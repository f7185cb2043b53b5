package ebs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"snapferry/transfer"
)

// anyLabel makes a valid label of chance, with what vCenter may hold.
func anyLabel(rng *rand.Rand) transfer.Label {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	instant := func() time.Time {
		return time.Unix(rng.Int64N(4e9), rng.Int64N(1e9)).UTC()
	}
	l := label()
	l.VMName = pick("", "app01", "データベース (本番)", `a "b" \c & <d>`, "x/y%2f", strings.Repeat("n", 80))
	l.VMUUID = pick("", l.VMUUID)
	l.Guest = transfer.Guest{ID: pick("", "windows2022srvNext_64Guest"), Firmware: pick("bios", "efi"), SecureBoot: rng.IntN(2) == 0, CPUs: rng.IntN(256), MemoryMiB: rng.Int64N(1 << 34)}
	l.Frozen, l.Quiesced = instant(), rng.IntN(2) == 0
	if rng.IntN(2) == 0 {
		l.Confirmed = instant()
	}
	l.Disk.Key = rng.Int32()
	l.DiskLabel = pick("", "Hard disk 7", "Festplatte 2", "硬盘 1")
	l.DiskSize = 1 + rng.Int64N(transfer.MaxVolumeGiB*transfer.GiB)
	l.Of = 1 + rng.IntN(60)
	l.Ordinal = 1 + rng.IntN(l.Of)
	for range rng.IntN(25) {
		l.Excluded = append(l.Excluded, pick("Hard disk 2", "", "データ", `quo"te`, "a  b", "&<>", "é"+strings.Repeat(" ", rng.IntN(300))))
	}
	l.ChangeID = transfer.ChangeID(pick("", "52 de c0 d9 b4 1f-61 d5/4"))
	l.Parent = transfer.SnapshotID(pick("", "snap-0123456789abcdef0"))
	l.Kind = transfer.PlanKind(pick("seed", "delta", "compare"))
	if rng.IntN(4) == 0 {
		l.Kind, l.Parent, l.Converts = transfer.Conversion, "snap-0123456789abcdef0", "20260102T030405.000Z-00000001"
	}
	l.Reason = pick("", "no recovery point yet", "CBT was reset (epoch changed)")
	l.ZerosAbsent = rng.IntN(2) == 0
	l.Blocks = rng.Int64N(1000) - 1
	if rng.IntN(2) == 0 {
		root := transfer.Digest{}
		for i := range root {
			root[i] = byte(rng.Uint32())
		}
		l.Root = &root
	}
	return l
}

func TestLabelsRoundTrip(t *testing.T) {
	for seed := range uint64(500) {
		l := anyLabel(rand.New(rand.NewPCG(seed, 1)))
		tags, err := encodeLabel(l, map[string]string{"team": "storage"})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for k, v := range tags {
			if len(v) > maxValue || !utf8.ValidString(v) || len(k) > maxKey {
				t.Errorf("seed %d: tag %s=%q", seed, k, v)
			}
		}
		if len(tags) > maxTags || tags["team"] != "storage" {
			t.Errorf("seed %d: %d tags", seed, len(tags))
		}
		got, err := decodeLabel(tags)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

func TestWhatPeopleReadIsCut(t *testing.T) {
	l := label()
	l.VMName = strings.Repeat("本", 200)
	l.Reason = "because\n\x00\xff " + strings.Repeat("ab", 200)
	tags, err := encodeLabel(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{tagVMName, tagReason, tagName} {
		if v := tags[k]; len(v) > maxValue || len(v) < maxValue-5 || !utf8.ValidString(v) || strings.ContainsAny(v, "\n\x00") {
			t.Errorf("tag %s=%q", k, v)
		}
	}
	if v := tags[tagName]; !strings.HasSuffix(v, " Hard disk 1 "+string(l.Cycle)) {
		t.Errorf("the name has lost disk and cycle: %q", v)
	}
	if _, err := decodeLabel(tags); err != nil {
		t.Error(err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	cases := []struct {
		tag    string
		change func(*transfer.Label)
	}{
		{tagAppliance, func(l *transfer.Label) { l.Appliance = "" }},
		{tagAppliance, func(l *transfer.Label) { l.Appliance = transfer.ApplianceID(long) }},
		{tagVCenter, func(l *transfer.Label) { l.VM.VCenter = "" }},
		{tagVM, func(l *transfer.Label) { l.VM.Moref = "vm\n1" }},
		{tagVMUUID, func(l *transfer.Label) { l.VMUUID = " x" }},
		{tagCycle, func(l *transfer.Label) { l.Cycle = "" }},
		{tagFrozen, func(l *transfer.Label) { l.Frozen = time.Time{} }},
		{tagFrozen, func(l *transfer.Label) { l.Frozen = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{tagDisk, func(l *transfer.Label) { l.Disk.UUID = "" }},
		{tagDiskSize, func(l *transfer.Label) { l.DiskSize = 0 }},
		{tagOrdinal, func(l *transfer.Label) { l.Ordinal = 0 }},
		{tagOrdinal, func(l *transfer.Label) { l.Ordinal = 3 }},
		{tagChangeID, func(l *transfer.Label) { l.ChangeID = transfer.ChangeID(long) }},
		{tagKind, func(l *transfer.Label) { l.Kind = "resume" }},
		{tagConverts, func(l *transfer.Label) { l.Kind, l.Parent = transfer.Conversion, "snap-1" }},
		{tagConverts, func(l *transfer.Label) { l.Kind, l.Converts, l.Parent = transfer.Conversion, "c1", "" }},
		{tagConverts, func(l *transfer.Label) { l.Converts = "c1" }},
		{tagGuest, func(l *transfer.Label) { l.Guest.ID = long }},
		{tagExcluded, func(l *transfer.Label) { l.Excluded = []string{"\xff"} }},
		{"list", func(l *transfer.Label) { l.Excluded = strings.Split(strings.Repeat("Hard disk 12,", 1000), ",") }},
	}
	for _, c := range cases {
		l := label()
		c.change(&l)
		if _, err := encodeLabel(l, nil); err == nil || !strings.Contains(err.Error(), c.tag) {
			t.Errorf("tag %s: error %v", c.tag, err)
		}
	}
}

func TestUserTags(t *testing.T) {
	good := map[string]string{"Name": "mine", "cost center": "", "schlüssel": strings.Repeat("ü", 255)}
	tags, err := encodeLabel(label(), good)
	if err != nil || tags[tagName] != "mine" {
		t.Errorf("Name %q, %v", tags[tagName], err)
	}
	for k, v := range good {
		if err := CheckUserTag(k, v); err != nil {
			t.Error(err)
		}
	}
	bad := map[string]string{
		"": "", "aws:x": "", "AWS:x": "", "snapferry:vm": "", "SnapFerry:x": "", strings.Repeat("k", 128): "",
		"k": strings.Repeat("ü", 256), "c": "a\nb", "s": "x ", "u": "\xff",
	}
	for k, v := range bad {
		if CheckUserTag(k, v) == nil {
			t.Errorf("%q=%q is taken", k, v)
		}
		if _, err := encodeLabel(label(), map[string]string{k: v}); err == nil {
			t.Errorf("%q=%q is written", k, v)
		}
	}
	// The count leaves room for every tag that is written later.
	l := label()
	l.ChangeID = ""
	many := map[string]string{}
	for i := range maxTags {
		many[fmt.Sprint("k", i)] = "v"
		tags, err := encodeLabel(l, many)
		if err != nil {
			if i < 15 {
				t.Errorf("only %d tags of one's own: %v", i, err)
			}
			return
		}
		confirm, _ := confirmTags(l.Frozen, "x/1")
		maps.Copy(tags, confirm)
		maps.Copy(tags, sealTags(transfer.Seal{Root: &transfer.ZeroDigest}))
		if len(tags) > maxTags {
			t.Fatalf("%d tags in the end", len(tags))
		}
	}
	t.Error("fifty tags beside ours were taken")
}

func TestDecodeNamesTheBadTag(t *testing.T) {
	cases := map[string][]string{
		tagVersion: {"2", "", "1 "}, tagAppliance: {"", "a\nb"}, tagVCenter: {""}, tagVM: {"", " vm-1"}, tagCycle: {""},
		tagGuest:  {"", "{", `{"cpus":-1}`, `{"cpus":1}x`, `{"unknown":1}`, `[]`, `{"cpus":1e99}`},
		tagFrozen: {"", "yesterday", "2026-01-02", "0001-01-01T00:00:00Z"}, tagConfirmed: {"never"},
		tagQuiesced: {"", "yes", "TRUE"}, tagZeros: {"", "1"},
		tagDisk:     {"", "2000", "x/y", "2000/", "/u", "+2000/u", "99999999999/u"},
		tagDiskSize: {"", "0", "-5", "0x10", "+7", "007", "9223372036854775808", "9223372036854775807"},
		tagOrdinal:  {"", "1", "0/1", "3/2", "1/2/3", "-1/1", "1/99999999999"},
		tagExcluded: {"Hard disk 2", `["a"`, `["a"]["b"]`, `[1]`, `"a"`},
		tagParent:   {"vol-1", "\x01"}, tagKind: {"", "Seed", "resume"}, tagBlocks: {"-1", "x", "1e3"},
		tagRoot: {"00", strings.Repeat("g", 64), strings.Repeat("A", 64)}, tagChangeID: {strings.Repeat("c", 256)},
	}
	for tag, values := range cases {
		for _, v := range values {
			tags, err := encodeLabel(label(), nil)
			if err != nil {
				t.Fatal(err)
			}
			tags[tag] = v
			if _, err := decodeLabel(tags); err == nil || !strings.Contains(err.Error(), tag) {
				t.Errorf("%s=%q: error %v", tag, v, err)
			}
		}
	}
	for _, tag := range []string{tagVersion, tagVM, tagGuest, tagFrozen, tagDisk, tagOrdinal, tagKind, tagZeros} {
		tags, _ := encodeLabel(label(), nil)
		delete(tags, tag)
		if _, err := decodeLabel(tags); err == nil {
			t.Errorf("a label without %s is taken", tag)
		}
	}
}

func TestDecodeTakesWhatIsHarmless(t *testing.T) {
	tags, err := encodeLabel(label(), map[string]string{"team": "x"})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(tags, map[string]string{
		"aws:backup": "y", tagPrefix + "verified": "later", tagRoot: "", tagChangeID: "", tagConfirmed: "",
		tagVMName: "a\x1b[31m\nb",
	})
	delete(tags, tagName)
	l, err := decodeLabel(tags)
	if err != nil || l.Root != nil || l.ChangeID != "" || !l.Confirmed.IsZero() {
		t.Errorf("label %+v, %v", l, err)
	}
	if strings.ContainsAny(l.VMName, "\x1b\n") {
		t.Errorf("a name that moves the terminal's cursor: %q", l.VMName)
	}
}

// FuzzDecodeLabel feeds tags as lines of key=value. What decodes must encode
// and decode to the same label.
func FuzzDecodeLabel(f *testing.F) {
	lines := func(tags map[string]string) []byte {
		var b bytes.Buffer
		for _, k := range sortedKeys(tags) {
			fmt.Fprintf(&b, "%s=%s\n", k, tags[k])
		}
		return b.Bytes()
	}
	for seed := range uint64(10) {
		tags, err := encodeLabel(anyLabel(rand.New(rand.NewPCG(seed, 2))), nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(lines(tags))
		tags[tagExcluded] = `["` + strings.Repeat("x", 200)
		tags[tagExcluded+"-2"] = `"]`
		f.Add(lines(tags))
	}
	f.Add([]byte("snapferry:version=1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tags := map[string]string{}
		for line := range bytes.Lines(data) {
			k, v, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("="))
			tags[string(k)] = string(v)
		}
		l, err := decodeLabel(tags)
		if err != nil {
			return
		}
		// A label may come from more or longer tags than are ever written.
		again, err := encodeLabel(l, nil)
		if err != nil {
			return
		}
		got, err := decodeLabel(again)
		if err != nil {
			t.Fatalf("%v in %v", err, again)
		}
		if diff := cmp.Diff(l, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
