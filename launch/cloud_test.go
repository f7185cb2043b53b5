package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithy "github.com/aws/smithy-go"
)

// cloud is a small EC2: as strict as the real one where a launch could go wrong,
// with a clock of its own on which states change.
type cloud struct {
	t  *testing.T
	mu sync.Mutex

	clock time.Time
	calls int      // that changed something
	ops   []string // what was called, EC2's and the others' functions

	killAt  int  // at this call the program ends …
	after   bool // … after its effect, whose answer is lost
	dead    bool
	kill    context.CancelFunc
	lose    map[string]int // answers of an operation that get lost, the program living on
	deny    map[string]bool
	noRoom  map[string]bool // types without capacity
	sick    bool            // instances never pass their checks
	encrypt bool
	lag     time.Duration // how long what is new is not shown

	id        int
	snaps     map[string]*snap
	images    map[string]*image
	instances map[string]*instance
	vols      map[string]*vol
	tasks     map[string]*task
	imports   map[string]*imported
	tokens    map[string]tokened
}

type thing struct {
	id    string
	tags  map[string]string
	shown time.Time // from when on it is shown
}

type snap struct {
	thing
	gib   int32
	state types.SnapshotState
}

type image struct {
	thing
	name     string
	ready    time.Time
	gone     bool
	stock    bool
	root     string
	mode     string
	devices  []string
	mappings map[string]types.EbsBlockDevice
}

type instance struct {
	thing
	kind, root, zone, token string
	running, stopped, over  time.Time // when it is; zero: not on the way there
	vols                    map[string]string
	subnet, ip              string
	keep                    map[string]bool // devices whose volume stays
}

type vol struct {
	thing
	gib      int32
	ready    time.Time
	instance string
	device   string
	snapshot string
	kind     types.VolumeType
}

type task struct {
	thing
	instance, vol string
	done          time.Time
	applied       bool
}

type imported struct {
	thing
	done  time.Time
	image string
	snaps []string
	off   bool
}

type tokened struct{ id, params string }

func newCloud(t *testing.T) *cloud {
	c := &cloud{
		t: t, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), lose: map[string]int{}, deny: map[string]bool{}, noRoom: map[string]bool{},
		lag: 7 * time.Second, snaps: map[string]*snap{}, images: map[string]*image{}, instances: map[string]*instance{}, vols: map[string]*vol{},
		tasks: map[string]*task{}, imports: map[string]*imported{}, tokens: map[string]tokened{}, kill: func() {},
	}
	c.images["ami-stock"] = &image{
		thing: thing{id: "ami-stock", tags: map[string]string{}}, name: "Windows", stock: true, root: "/dev/sda1", mode: "", devices: []string{"/dev/sda1"},
		mappings: map[string]types.EbsBlockDevice{"/dev/sda1": {VolumeSize: aws.Int32(30), DeleteOnTermination: aws.Bool(true)}},
	}
	return c
}

func (c *cloud) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock
}

func (c *cloud) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(d)
	return ctx.Err()
}

var errKilled = errors.New("the program is gone")

// at counts a call that changes something, and ends the program where that was
// asked for; end is called once the effect is there. To end at a call that only
// looks leaves what the end before the next change leaves.
func (c *cloud) at(op string) (end func(error) error, err error) {
	if c.dead {
		return nil, errKilled
	}
	c.ops = append(c.ops, op)
	if strings.HasPrefix(op, "Describe") || strings.HasPrefix(op, "Get") {
		return c.lost(op), nil
	}
	c.calls++
	die := func() error {
		c.dead = true
		c.kill()
		return errKilled
	}
	now := c.calls == c.killAt
	if now && !c.after {
		return nil, die()
	}
	return func(err error) error {
		if now {
			return die()
		}
		return c.lost(op)(err)
	}, nil
}

// lost loses the answer where that was asked for.
func (c *cloud) lost(op string) func(error) error {
	return func(err error) error {
		if err == nil && c.lose[op] > 0 {
			c.lose[op]--
			return io.ErrUnexpectedEOF
		}
		return err
	}
}

// revive is the next program.
func (c *cloud) revive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead, c.killAt, c.kill = false, 0, func() {}
}

// serve is one call of EC2's.
func serve[O any](c *cloud, ctx context.Context, op string, dry *bool, effect func() (*O, error)) (*O, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	end, err := c.at(op)
	if err != nil {
		return nil, err
	}
	c.clock = c.clock.Add(50 * time.Millisecond)
	c.settle()
	var out *O
	switch {
	case c.deny[op]:
		err = fault("UnauthorizedOperation", "You are not authorized")
	case aws.ToBool(dry):
		err = fault("DryRunOperation", "Request would have succeeded")
	default:
		out, err = effect()
	}
	if err = end(err); err != nil {
		return nil, err
	}
	return out, nil
}

func fault(code, format string, args ...any) error {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// call is one of the functions that the launcher is given.
func (c *cloud) call(op string, effect func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, err := c.at(op)
	if err != nil {
		return err
	}
	effect()
	return end(nil)
}

func (c *cloud) newThing(prefix string, specs []types.TagSpecification, kind types.ResourceType) thing {
	c.id++
	th := thing{id: fmt.Sprintf("%s-%04d", prefix, c.id), tags: map[string]string{}, shown: c.clock.Add(c.lag)}
	for _, s := range specs {
		if s.ResourceType == kind {
			maps.Copy(th.tags, tagMap(s.Tags))
		}
	}
	if len(th.tags) > maxTags {
		c.t.Errorf("%s has %d tags", th.id, len(th.tags))
	}
	return th
}

// once finds what a client token has made before.
func (c *cloud) once(op string, token *string, in any) (string, error) {
	if token == nil {
		return "", nil
	}
	if len(*token) > maxToken {
		return "", fault("InvalidParameterValue", "token")
	}
	params, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	key := op + *token
	before, ok := c.tokens[key]
	if !ok {
		c.tokens[key] = tokened{params: string(params)}
		return "", nil
	}
	if before.params != string(params) {
		return "", fault("IdempotentParameterMismatch", "other parameters")
	}
	return before.id, nil
}

func (c *cloud) tokenIs(op string, token *string, id string) {
	if token == nil {
		return
	}
	t := c.tokens[op+*token]
	t.id = id
	c.tokens[op+*token] = t
}

func (c *cloud) passed(t time.Time) bool { return !t.IsZero() && !c.clock.Before(t) }

// settle makes happen what time brings.
func (c *cloud) settle() {
	for _, i := range c.instances {
		if !c.passed(i.over) {
			continue
		}
		for device, id := range i.vols {
			if v := c.vols[id]; v != nil && v.instance == i.id {
				if i.keep[device] {
					v.instance = ""
				} else {
					delete(c.vols, id)
				}
			}
		}
	}
	for _, t := range c.tasks {
		if i := c.instances[t.instance]; c.passed(t.done) && !t.applied && i != nil {
			t.applied = true
			delete(c.vols, i.vols[i.root])
			i.vols[i.root] = t.vol
			c.vols[t.vol].instance, c.vols[t.vol].device = i.id, i.root
			i.keep[i.root] = true
		}
	}
	for _, m := range c.imports {
		if c.passed(m.done) && m.image == "" && !m.off {
			th := c.newThing("ami", nil, "")
			img := &image{thing: th, name: "import-" + m.id, ready: c.clock, root: "/dev/sda1", mappings: map[string]types.EbsBlockDevice{}}
			for n, from := range m.snaps {
				s := &snap{thing: c.newThing("snap", nil, ""), gib: c.snaps[from].gib, state: types.SnapshotStateCompleted}
				c.snaps[s.id] = s
				device := []string{"/dev/sda1", "/dev/sdb", "/dev/sdc"}[n]
				img.devices = append(img.devices, device)
				img.mappings[device] = types.EbsBlockDevice{SnapshotId: aws.String(s.id)}
			}
			c.images[th.id], m.image = img, th.id
		}
	}
}

func (i *instance) state(now time.Time) types.InstanceStateName {
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case past(i.over):
		return types.InstanceStateNameTerminated
	case !i.over.IsZero():
		return types.InstanceStateNameShuttingDown
	case past(i.stopped):
		return types.InstanceStateNameStopped
	case !i.stopped.IsZero():
		return types.InstanceStateNameStopping
	case past(i.running):
		return types.InstanceStateNameRunning
	}
	return types.InstanceStateNamePending
}

// ask is which things a request is about: IDs are an error if one is unknown.
func (c *cloud) passes(th thing, filters []types.Filter, also map[string]string) bool {
	for _, f := range filters {
		name := aws.ToString(f.Name)
		switch key, isTag := strings.CutPrefix(name, "tag:"); {
		case isTag:
			v, has := th.tags[key]
			if !has || !slices.Contains(f.Values, v) {
				return false
			}
		case name == "tag-key":
			if !slices.ContainsFunc(f.Values, func(k string) bool { _, has := th.tags[k]; return has }) {
				return false
			}
		default:
			v, known := also[name]
			if !known {
				c.t.Errorf("EC2 has no filter %s here", name)
			}
			if !slices.Contains(f.Values, v) {
				return false
			}
		}
	}
	return true
}

// pick lists what is shown, by ID or by filters, in the order of the IDs.
func pick[T any](c *cloud, all map[string]T, th func(T) thing, ids []string, filters []types.Filter, also func(T) map[string]string, missing string) ([]T, error) {
	var out []T
	for _, id := range ids {
		if x, ok := all[id]; !ok || c.clock.Before(th(x).shown) {
			return nil, fault(missing, "%s does not exist", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		x := all[id]
		if (len(ids) > 0 && !slices.Contains(ids, id)) || c.clock.Before(th(x).shown) {
			continue
		}
		if also == nil {
			also = func(T) map[string]string { return nil }
		}
		if c.passes(th(x), filters, also(x)) {
			out = append(out, x)
		}
	}
	return out, nil
}

func (c *cloud) tagsOf(id string) map[string]string {
	switch {
	case c.snaps[id] != nil:
		return c.snaps[id].tags
	case c.images[id] != nil && !c.clock.Before(c.images[id].shown):
		return c.images[id].tags
	case c.instances[id] != nil && !c.clock.Before(c.instances[id].shown):
		return c.instances[id].tags
	case c.vols[id] != nil && !c.clock.Before(c.vols[id].shown):
		return c.vols[id].tags
	}
	return nil
}

// ours lists all that carries our mark and costs money.
func (c *cloud) ours() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	var out []string
	add := func(th thing) {
		if th.tags[tagVCenter] != "" {
			out = append(out, th.id)
		}
	}
	for _, s := range c.snaps {
		add(s.thing)
	}
	for _, i := range c.images {
		if !i.gone {
			add(i.thing)
		}
	}
	for _, i := range c.instances {
		if i.state(c.clock) != types.InstanceStateNameTerminated {
			add(i.thing)
		}
	}
	for _, v := range c.vols { // by tag or not: every volume here is of a launch
		out = append(out, v.id)
	}
	for _, m := range c.imports {
		if m.image == "" && !m.off {
			out = append(out, m.id)
		}
	}
	slices.Sort(out)
	return out
}
