package vsphere

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"

	"snapferry/transfer"
)

const (
	// tagBatch VMs are asked about in one request: request and answer stay near
	// 100 KB, and 2,000 VMs take two.
	tagBatch = 1000
	// tagNames are believed for so long: each costs a call, and people rename
	// tags rarely. An attached or detached tag is seen at once.
	tagNames = 15 * time.Minute
	// tagRefusals end the search for the VMs on whose account a batch is
	// refused: enough to find two or three among thousands by halving.
	tagRefusals = 64
)

// tagging is the session with vCenter's REST API, where the tags are: SOAP does
// not know them. It logs in when it is first needed.
type tagging struct {
	c    *Client
	user *url.Userinfo

	mu       sync.Mutex // one at a time
	rest     *rest.Client
	loggedIn bool
	names    map[string]string // "category:tag" by tag ID; "" may not be read
	read     time.Time         // when names were begun

	missing string // guarded by quick, which is held for no call
	quick   sync.Mutex
}

func newTagging(c *Client, user *url.Userinfo) *tagging {
	return &tagging{c: c, user: user, rest: rest.NewClient(c.vim)}
}

// Tags returns the vSphere tags of some VMs, "category:tag", sorted; VMs without
// any are not in the map. It takes a REST call for every thousand VMs, and every
// quarter of an hour one for each tag in use and each category. Where vCenter
// has no tagging service, or the user may not read tags, there are none and
// TagsMissing says why: that is no error. An error is a vCenter that cannot be
// asked now, of which nothing follows about tags.
func (c *Client) Tags(ctx context.Context, vms []transfer.VMID) (map[transfer.VMID][]string, error) {
	refs := make([]mo.Reference, 0, len(vms))
	for _, id := range vms {
		r, err := c.vmRef(id)
		if err != nil {
			return nil, err
		}
		refs = append(refs, r)
	}
	t := c.tags
	t.mu.Lock()
	defer t.mu.Unlock()
	q := &tagQuery{tagging: t, ids: map[string][]string{}, refusals: tagRefusals}
	err := q.run(ctx, refs)
	if isRefused(err) {
		t.setMissing(fmt.Sprintf("vCenter gives no tags: %v", err))
		return nil, nil
	}
	if err != nil {
		return nil, Explain("read the tags of VMs", err)
	}
	t.setMissing(q.doubts())
	found := map[transfer.VMID][]string{}
	for moref, ids := range q.ids {
		if names := t.named(ids); len(names) > 0 {
			found[transfer.VMID{VCenter: c.ID(), Moref: moref}] = names
		}
	}
	return found, nil
}

// TagsMissing says why the last Tags had none, or not all, in words for a
// person; "" when it had all that there are. No call.
func (c *Client) TagsMissing() string {
	c.tags.quick.Lock()
	defer c.tags.quick.Unlock()
	return c.tags.missing
}

func (t *tagging) setMissing(why string) {
	t.quick.Lock()
	defer t.quick.Unlock()
	t.missing = why
}

func (t *tagging) named(ids []string) (names []string) {
	for _, id := range ids {
		if n := t.names[id]; n != "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// close logs out, unless a query runs: such a session ends by itself.
func (t *tagging) close(ctx context.Context) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	if t.loggedIn {
		t.loggedIn = false
		_ = t.send(ctx, t.rest.Logout) // it ends by itself
	}
}

// errNoTagging: a refusal that concerns the whole service.
var errNoTagging = errors.New("the user may not, or there is no tagging service")

// call makes one request, logged in: a session that has ended is begun anew.
func (t *tagging) call(ctx context.Context, f func(context.Context) error) error {
	for again := range 2 {
		if !t.loggedIn {
			err := t.send(ctx, func(ctx context.Context) error { return t.rest.Login(ctx, t.user) })
			if isRefused(err) {
				return fmt.Errorf("log in to the REST API: %w (%w)", errNoTagging, err)
			}
			if err != nil {
				return err
			}
			t.loggedIn = true
		}
		err := t.send(ctx, f)
		if !rest.IsStatusError(err, http.StatusUnauthorized) {
			return err
		}
		t.loggedIn = false
		if again == 1 {
			return fmt.Errorf("%w (%w)", errNoTagging, err)
		}
	}
	return nil // not reached
}

// send counts and bounds a request, as wire does.
func (t *tagging) send(ctx context.Context, f func(context.Context) error) error {
	t.c.wire.calls.Add(1)
	bounded, cancel := context.WithTimeout(ctx, t.c.timing.Call)
	defer cancel()
	err := f(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w (%v)", errNoAnswer, t.c.timing.Call)
	}
	return err
}

// isRefused: vCenter answered and will not, as against not answering.
func isRefused(err error) bool {
	if err == nil {
		return false
	}
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		if rest.IsStatusError(err, code) {
			return true
		}
	}
	return errors.Is(err, errNoTagging) || strings.HasPrefix(err.Error(), "400 ") // how the client words that status
}

// tagQuery is one run of Tags; t.mu is held.
type tagQuery struct {
	*tagging
	ids      map[string][]string // of tags, by moref
	refusals int                 // that are left
	refused  int                 // VMs whose tags may not be read
	unnamed  int                 // tags that may not be read
}

func (q *tagQuery) run(ctx context.Context, refs []mo.Reference) error {
	for batch := range slices.Chunk(refs, tagBatch) {
		if err := q.ask(ctx, batch); err != nil {
			return err
		}
	}
	return q.learn(ctx)
}

// ask asks for the tags of a batch. One VM that was deleted since, or that the
// user may not read, spoils it all: the halves find that one.
func (q *tagQuery) ask(ctx context.Context, batch []mo.Reference) error {
	var found []tags.AttachedTags
	err := q.call(ctx, func(ctx context.Context) (err error) {
		found, err = tags.NewManager(q.rest).ListAttachedTagsOnObjects(ctx, batch)
		return err
	})
	switch {
	case err == nil:
		for _, f := range found {
			moref := f.ObjectID.Reference().Value
			q.ids[moref] = append(q.ids[moref], f.TagIDs...)
		}
		return nil
	case !isRefused(err) || errors.Is(err, errNoTagging):
		return err
	}
	if q.refusals--; q.refusals <= 0 {
		return err
	}
	if len(batch) == 1 {
		q.refused++
		return nil
	}
	half := len(batch) / 2
	if err := q.ask(ctx, batch[:half]); err != nil {
		return err
	}
	return q.ask(ctx, batch[half:])
}

// learn reads the names of tags that are not known.
func (q *tagQuery) learn(ctx context.Context) error {
	if time.Since(q.read) > tagNames {
		q.names, q.read = map[string]string{}, time.Now()
	}
	m := tags.NewManager(q.rest)
	used := map[string]bool{}
	for _, ids := range q.ids {
		for _, id := range ids {
			used[id] = true
		}
	}
	categories := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		if _, known := q.names[id]; known {
			continue
		}
		var tag *tags.Tag
		err := q.call(ctx, func(ctx context.Context) (err error) { tag, err = m.GetTag(ctx, id); return err })
		if err == nil && categories[tag.CategoryID] == "" {
			var c *tags.Category
			err = q.call(ctx, func(ctx context.Context) (err error) { c, err = m.GetCategory(ctx, tag.CategoryID); return err })
			if err == nil {
				categories[tag.CategoryID] = c.Name
			}
		}
		switch {
		case err == nil:
			q.names[id] = categories[tag.CategoryID] + ":" + tag.Name
		case isRefused(err) && !errors.Is(err, errNoTagging): // deleted since, or not for this user
			q.names[id] = ""
		default:
			return err
		}
	}
	for id := range used {
		if q.names[id] == "" {
			q.unnamed++
		}
	}
	return nil
}

// doubts says what is missing.
func (q *tagQuery) doubts() string {
	var why []string
	if q.refused > 0 {
		why = append(why, fmt.Sprintf("the tags of %d VMs may not be read", q.refused))
	}
	if q.unnamed > 0 {
		why = append(why, fmt.Sprintf("%d tags may not be read", q.unnamed))
	}
	return strings.Join(why, "; ")
}
