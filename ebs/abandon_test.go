package ebs

import (
	"testing"

	"snapferry/test/aws"
	"snapferry/transfer"
)

func TestAbandonOnlyDraftsOfOurs(t *testing.T) {
	r := newRig(t, aws.Options{})
	draft, broken := r.start().ID(), r.start().ID()
	if err := r.aws.FailSnapshot(string(broken), "an error of AWS's own"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again, when they are gone
		for _, id := range []transfer.SnapshotID{draft, broken} {
			if err := r.store.Abandon(t.Context(), id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			if info, there := r.info(id); there {
				t.Errorf("%s is still there: %+v", id, info)
			}
		}
	}
	sealed := r.sealed(nil)
	wantKind(t, r.store.Abandon(t.Context(), sealed), transfer.Permanent, string(sealed), "completed")
	if _, there := r.info(sealed); !there {
		t.Error("a completed snapshot was deleted")
	}
}
