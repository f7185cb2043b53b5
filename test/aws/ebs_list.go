package aws

import (
	"encoding/json"
	"net/url"
	"regexp"
	"sort"
	"strconv"
	"time"
)

type listedBlock struct {
	BlockIndex int32
	BlockToken string
}

type changedBlock struct {
	BlockIndex       int32
	FirstBlockToken  *string
	SecondBlockToken *string
}

// page is the part that both listings share, with the nulls of the service.
type page struct {
	BlockSize  *int
	ExpiryTime *json.Number
	NextToken  *string
	VolumeSize *int64
}

// newPage says nothing of sizes on a page that a token led to and that has no
// blocks; captured.
func newPage(w window, shown int, next *string, expiry time.Time, size int64) page {
	if w.next != "" && shown == 0 && next == nil {
		return page{}
	}
	bytes, stamp := blockSize, epoch(expiry)
	return page{&bytes, &stamp, next, &size}
}

// window is the request for one page.
type window struct {
	max, start int64
	scope      string // what page tokens of this listing are good for
	next       string
	indexes    []int32
}

// defaultPage is the MaxResults of a request that names none.
const defaultPage = 10000

var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9+/=_-]+$`)

// checkWindow checks what the model says about the paging parameters.
func checkWindow(q url.Values) (w window, err *apiError) {
	if w.max, err = modelInt(q.Get("maxResults"), "maxResults", defaultPage, 100, 10000); err != nil {
		return w, err
	}
	if w.start, err = modelInt(q.Get("startingBlockIndex"), "startingBlockIndex", 0, 0, 1<<31-1); err != nil {
		return w, err
	}
	w.next = q.Get("pageToken")
	if w.next != "" && !tokenPattern.MatchString(w.next) {
		return w, modelError(w.next, "nextToken", "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$")
	}
	return w, nil
}

// cut takes one page off the listing: what it shows and the token for more.
func (c *call) cut(w window) (shown []int32, next *string, err *apiError) {
	now := c.e.now()
	if w.next != "" {
		at, ok := c.e.tokens.open(w.next, w.scope, now)
		if !ok {
			return nil, nil, invalid("INVALID_PAGE_TOKEN", "The pagination token %s is invalid.", w.next)
		}
		w.start = at
	}
	from := sort.Search(len(w.indexes), func(i int) bool { return int64(w.indexes[i]) >= w.start })
	rest := w.indexes[from:]
	n := min(int(w.max), len(rest))
	switch turn := c.e.pages.Add(1); {
	case c.lie == LieEmptyPage || c.e.opt.OddPages && turn%3 == 2:
		n = 0
	case c.e.opt.OddPages && turn%3 == 0 && n > 1:
		n /= 2
	}
	if n < len(rest) {
		token := c.e.tokens.make(w.scope, int64(rest[n]), now.Add(pageTokenLife))
		next = &token
	} else if n == 0 && (c.lie == LieEmptyPage || c.op == opChanged && w.next == "") {
		// A comparison that finds nothing says so on a second page; captured.
		token := c.e.tokens.make(w.scope, w.start, now.Add(pageTokenLife))
		next = &token
	}
	return rest[:n], next, nil
}

func (c *call) blockToken(id string, index int32, expiry time.Time) string {
	return c.e.tokens.make(blockScope(id, index), int64(index), expiry)
}

func blockScope(id string, index int32) string { return "block/" + id + "/" + strconv.Itoa(int(index)) }

// open finds a snapshot that can be read now.
func (c *call) open(id string) (*snapshot, *layer, *apiError) {
	s := c.e.lookup(id)
	if s == nil || s.owner != c.e.opt.AccountID {
		return nil, nil, notFound(id)
	}
	l := s.readable(c.e.store, c.e.now(), c.e.opt.PropagationDelay)
	if l == nil {
		return nil, nil, notFound(id)
	}
	return s, l, nil
}

func (c *call) listSnapshotBlocks() (*reply, *apiError) {
	w, err := checkWindow(c.r.URL.Query())
	if err != nil {
		return nil, err
	}
	s, l, err := c.open(c.path.snapshot)
	if err != nil {
		return nil, err
	}
	w.scope, w.indexes = "list/"+s.id, l.indexes()
	shown, next, err := c.cut(w)
	if err != nil {
		return nil, err
	}
	expiry := c.expiry(len(shown))
	out := struct {
		Blocks []listedBlock
		page
	}{make([]listedBlock, 0, len(shown)), newPage(w, len(shown), next, expiry, s.size)}
	for _, i := range shown {
		out.Blocks = append(out.Blocks, listedBlock{i, c.blockToken(s.id, i, expiry)})
	}
	return ebsReply(200, out), nil
}

// expiry is when the tokens of a page end; a page without any says now; captured.
func (c *call) expiry(tokens int) time.Time {
	if tokens == 0 {
		return c.e.now()
	}
	return c.e.now().Add(blockTokenLife)
}

func (c *call) listChangedBlocks() (*reply, *apiError) {
	q := c.r.URL.Query()
	w, err := checkWindow(q)
	if err != nil {
		return nil, err
	}
	firstID := q.Get("firstSnapshotId")
	if firstID == "" {
		return nil, invalid("INVALID_SNAPSHOT_ID", "First snapshot should not be empty or null")
	}
	if !validID(firstID) {
		return nil, modelError(firstID, "firstSnapshotId", "Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$")
	}
	first, from, err := c.open(firstID)
	if err != nil {
		return nil, err
	}
	second, to, err := c.open(c.path.snapshot)
	if err != nil {
		return nil, err
	}
	if first.rootID != second.rootID {
		return nil, invalid("UNRELATED_SNAPSHOTS", "The snapshots '%s' and '%s' are not of the same lineage.", first.id, second.id)
	}
	w.scope, w.indexes = "changed/"+first.id+"/"+second.id, difference(from, to)
	shown, next, err := c.cut(w)
	if err != nil {
		return nil, err
	}
	expiry := c.expiry(len(shown))
	out := struct {
		ChangedBlocks           []changedBlock
		LastEvaluatedBlockIndex *int32
		page
	}{make([]changedBlock, 0, len(shown)), nil, newPage(w, len(shown), next, expiry, second.size)}
	for _, i := range shown {
		b := changedBlock{BlockIndex: i}
		if from.resolve(i) != nil {
			t := c.blockToken(first.id, i, expiry)
			b.FirstBlockToken = &t
		}
		if to.resolve(i) != nil {
			t := c.blockToken(second.id, i, expiry)
			b.SecondBlockToken = &t
		}
		out.ChangedBlocks = append(out.ChangedBlocks, b)
	}
	return ebsReply(200, out), nil
}

// difference lists the blocks that are not the same ones in both layers. A
// block rewritten with the same bytes is listed; captured.
func difference(from, to *layer) []int32 {
	var out []int32
	for _, i := range merge(from.indexes(), to.indexes()) {
		if from.resolve(i) != to.resolve(i) {
			out = append(out, i)
		}
	}
	return out
}
