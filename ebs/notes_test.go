package ebs

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

func verification(change ...func(*transfer.Verification)) transfer.Verification {
	v := transfer.Verification{At: time.Now().UTC().Truncate(time.Second), Kind: transfer.VerifyFull, Proof: transfer.ProofManifest, OK: true, Blocks: 7, Of: 7}
	for _, f := range change {
		f(&v)
	}
	return v
}

func (r *rig) notes(id transfer.SnapshotID) transfer.Notes {
	r.Helper()
	_, notes, err := r.store.AllWithNotes(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return notes[id]
}

func (r *rig) retag(id transfer.SnapshotID, key, value string) {
	r.Helper()
	if err := r.store.tag(r.Context(), "test", id, time.Time{}, map[string]string{key: value}); err != nil {
		r.Fatal(err)
	}
}

func TestNotesComeBack(t *testing.T) {
	r := newRig(t, aws.Options{})
	id, other := r.sealed(nil), r.sealed(nil)
	if n := r.notes(id); n != (transfer.Notes{}) {
		t.Errorf("before: %+v", n)
	}
	r.faults.Add(fault.Rule{Op: opTag, Kind: fault.LostAnswer})
	for _, v := range []transfer.Verification{
		verification(),
		verification(func(v *transfer.Verification) { v.Kind, v.Of = transfer.VerifySample, 2048 }),
		verification(func(v *transfer.Verification) { v.Kind, v.Proof, v.Of = transfer.VerifySource, "", 2048 }),
		verification(func(v *transfer.Verification) { v.OK, v.Wrong = false, 3 }),
	} {
		if kept, err := r.store.Note(t.Context(), id, v); err != nil || !kept {
			t.Fatalf("kept %v, %v", kept, err)
		}
		n := r.notes(id)
		if n.Verified == nil || n.Unreadable != "" {
			t.Fatalf("%+v", n)
		}
		if d := cmp.Diff(v, *n.Verified); d != "" {
			t.Error(d)
		}
	}
	if n := r.notes(other); n != (transfer.Notes{}) {
		t.Errorf("the other snapshot has %+v", n)
	}
	found, err := r.store.Snapshots(t.Context(), label().VM)
	if err != nil || len(found) != 2 {
		t.Errorf("labels beside notes: %d, %v", len(found), err)
	}
}

// TestAWrongResultStays until a full proof refutes it.
func TestAWrongResultStays(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.sealed(nil)
	note := func(want bool, v transfer.Verification) {
		t.Helper()
		if kept, err := r.store.Note(t.Context(), id, v); err != nil || kept != want {
			t.Errorf("%+v: kept %v, %v", v, kept, err)
		}
	}
	wrong := verification(func(v *transfer.Verification) { v.OK, v.Wrong = false, 3 })
	sample := verification(func(v *transfer.Verification) { v.Kind, v.Of = transfer.VerifySample, 70 })
	note(true, wrong)
	note(false, sample)
	note(false, verification(func(v *transfer.Verification) { v.Proof = transfer.ProofNone }))
	if n := r.notes(id); n.Verified == nil || n.Verified.OK {
		t.Errorf("a luckier sample took its place: %+v", n.Verified)
	}
	note(true, verification())
	note(true, sample)
}

func TestNotesAreNotBelievedBlindly(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.sealed(nil)
	at := time.Now().UTC().Format(time.RFC3339)
	good := func(change string) string {
		text := fmt.Sprintf(`{"snap":%q,"at":%q,"kind":"full","proof":"root","ok":true,"blocks":7,"of":7,"wrong":0}`, id, at)
		if from, to, ok := strings.Cut(change, "=>"); ok {
			if !strings.Contains(text, from) {
				t.Fatalf("%s is not in %s", from, text)
			}
			return strings.Replace(text, from, to, 1)
		}
		return text
	}
	r.retag(id, tagVerified, good(""))
	if n := r.notes(id); n.Verified == nil || !n.Verified.OK {
		t.Fatalf("what is right is not believed: %+v", n)
	}
	for _, text := range []string{
		"", "yes", "[]", "{}", "null", good("") + "x", good(`"ok":true=>"ok":true,"more":1`),
		good(string(id) + "=>snap-0123456789abcdef0"), // of another snapshot
		good(at + "=>2001-01-01T00:00:00Z"), good(at + "=>2999-01-01T00:00:00Z"),
		good(`"full"=>"complete"`), good(`"root"=>""`), good(`"root"=>"faith"`), good(`"full"=>"source"`),
		good(`"blocks":7=>"blocks":6`), good(`"blocks":7=>"blocks":-7`), good(`"of":7=>"of":999999`), good(`"wrong":0=>"wrong":1`),
		good(`"wrong":0=>"wrong":99999999999999999999`), good(`7,"of":7=>8,"of":7`),
	} {
		r.retag(id, tagVerified, text)
		n := r.notes(id)
		if n.Verified != nil || !strings.Contains(n.Unreadable, tagVerified) {
			t.Errorf("%s is believed: %+v", text, n)
		}
		if _, err := r.store.Snapshots(t.Context(), label().VM); err != nil {
			t.Errorf("%s spoils the label: %v", text, err)
		}
	}
	if kept, err := r.store.Note(t.Context(), id, verification()); err != nil || !kept {
		t.Errorf("what cannot be read is not written over: %v, %v", kept, err)
	}
}

func TestNoteOnlyOnOurs(t *testing.T) {
	r := newRig(t, aws.Options{})
	foreign := transfer.SnapshotID(r.aws.AddForeign("123456789012", 1, map[string]string{"Name": "app01"}))
	_, err := r.store.Note(t.Context(), foreign, verification())
	wantKind(t, err, transfer.Permanent, string(foreign), "does not carry our tags")
	_, err = r.store.Note(t.Context(), "snap-0123456789abcdef0", verification())
	wantKind(t, err, transfer.Permanent, "gone")
	_, err = r.store.Note(t.Context(), r.sealed(nil), verification(func(v *transfer.Verification) { v.Of = 1 }))
	wantKind(t, err, transfer.Permanent, "7 of 1 blocks")
	if n := r.store.Calls()[opTag]; n != 1 { // of the seal
		t.Errorf("%d tag writes", n)
	}
}

func TestExpire(t *testing.T) {
	r := newRig(t, aws.Options{})
	gone := r.sealed(nil)
	r.faults.Add(fault.Rule{Op: opDelete, Kind: fault.LostAnswer})
	for range 2 {
		if err := r.store.Expire(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
	}
	if _, there := r.info(gone); there {
		t.Error("it is still there")
	}
	launched, inImage, draft := r.sealed(nil), r.sealed(nil), r.start().ID()
	foreign := transfer.SnapshotID(r.aws.AddForeign("123456789012", 1, map[string]string{tagVerified: "x"}))
	r.retag(launched, tagInUse, "test launch of app01")
	if err := r.aws.UseInImage(string(inImage), "ami-0123456789abcdef0"); err != nil {
		t.Fatal(err)
	}
	for id, c := range map[transfer.SnapshotID]struct {
		text  string
		inUse bool
	}{
		launched: {"test launch of app01", true}, inImage: {"image", true},
		draft: {"pending", false}, foreign: {"does not carry our tags", false},
	} {
		err := r.store.Expire(t.Context(), id)
		wantKind(t, err, transfer.Permanent, string(id), c.text)
		if errors.Is(err, transfer.ErrInUse) != c.inUse {
			t.Errorf("%s: in use %v: %v", id, !c.inUse, err)
		}
		if _, there := r.info(id); !there {
			t.Errorf("%s (%s) was deleted", id, c.text)
		}
	}
	r.retag(launched, tagInUse, "")
	if err := r.store.Expire(t.Context(), launched); !errors.Is(err, transfer.ErrInUse) {
		t.Errorf("an empty mark is a mark: %v", err)
	}
	if n := r.notes(launched); n.InUse == "" {
		t.Errorf("the note is %+v", n)
	}
}

// FuzzNotes: no tag makes the reader of notes fall, or say what cannot be.
func FuzzNotes(f *testing.F) {
	f.Add(`{"snap":"snap-1","at":"2026-01-02T03:04:05Z","kind":"full","proof":"root","ok":true,"blocks":7,"of":7,"wrong":0}`, "me")
	f.Add(`{`, "\x00")
	started := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, verified, inUse string) {
		tags := map[string]string{tagVerified: verified, tagInUse: inUse}
		n := decodeNotes(rawSnapshot("snap-1", started, 1, maps.Clone(tags)), started.Add(time.Hour))
		if n.InUse == "" || (n.Verified == nil) == (n.Unreadable == "") {
			t.Errorf("%q %q: %+v", verified, inUse, n)
		}
		if v := n.Verified; v != nil && (v.Of > transfer.BlocksPerGiB || v.Blocks > v.Of || v.At.IsZero()) {
			t.Errorf("%q: %+v", verified, *v)
		}
	})
}

func rawSnapshot(id string, started time.Time, gib int32, tags map[string]string) types.Snapshot {
	s := types.Snapshot{SnapshotId: &id, StartTime: &started, VolumeSize: &gib}
	for k, v := range tags {
		s.Tags = append(s.Tags, types.Tag{Key: &k, Value: &v})
	}
	return s
}
