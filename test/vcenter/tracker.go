package vcenter

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// tracker is one life of change tracking on one disk: the uuid half of its
// change IDs and, per sequence number, the grains written while it was current.
// Past epochs never change. The Disk guards it; touch may be called by many at
// once.
type tracker struct {
	uuid   string
	epochs []*bitmap // epochs[seq-1]; the last is current
	// lossy makes every answer miss half of what changed: tracking that was
	// switched on beside a snapshot, or grew past 128 GiB.
	lossy bool
}

// newTracker is a new life for a disk of so many bytes.
func newTracker(size int64) *tracker {
	h := uuid.New()
	// The form ESXi uses: "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63".
	return &tracker{uuid: fmt.Sprintf("% x-% x", h[:8], h[8:]), epochs: []*bitmap{newBitmap(size)}}
}

func (t *tracker) seq() int { return len(t.epochs) }

func (t *tracker) id(seq int) string { return fmt.Sprintf("%s/%d", t.uuid, seq) }

func (t *tracker) touch(off, n int64) {
	if n == 0 {
		return
	}
	t.epochs[len(t.epochs)-1].addRange(off/grain, (off+n+grain-1)/grain)
}

// cut closes the current epoch of a disk of so many bytes and returns its number.
func (t *tracker) cut(size int64) int {
	t.epochs = append(t.epochs, newBitmap(size))
	return len(t.epochs) - 1
}

// since returns what changed after changeID up to the end of epoch seq; false
// if the ID is not of this life or lies ahead.
func (t *tracker) since(changeID string, seq int) (*bitmap, bool) {
	id, num, ok := strings.Cut(changeID, "/")
	from, err := strconv.Atoi(num)
	if !ok || err != nil || id != t.uuid || from < 1 || from > seq {
		return nil, false
	}
	all := &bitmap{}
	for _, e := range t.epochs[from:seq] {
		all.union(e)
	}
	return all, true
}
