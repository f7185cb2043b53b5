package aws

import (
	"sync"
	"time"
)

// cloud is the compute side of the account: what can be launched, what runs,
// and the network around it. Its lock is taken before the emulator's and before
// that of a snapshot.
type cloud struct {
	mu         sync.Mutex
	instances  map[string]*instance
	images     map[string]*machineImage
	volumes    map[string]*volume
	interfaces map[string]*networkInterface
	vpcs       map[string]*vpc
	subnets    map[string]*subnet
	groups     map[string]*securityGroup
	keys       map[string]*keyPair // by name
	profiles   map[string]string   // role name by instance profile name
	roles      map[string]bool     // IAM roles for services
	placements map[string]bool     // names of placement groups
	templates  map[string]*launchTemplate
	rootTasks  map[string]*rootTask
	imports    map[string]*importTask
	commands   map[string]*command
	handled    map[string]handledToken // by operation and client token
	offered    map[string][]string     // zones by instance type, where a test has set them
	onCommand  func(Command) CommandResult
}

func newCloud() *cloud {
	return &cloud{
		instances: map[string]*instance{}, images: map[string]*machineImage{}, volumes: map[string]*volume{},
		interfaces: map[string]*networkInterface{}, vpcs: map[string]*vpc{}, subnets: map[string]*subnet{},
		groups: map[string]*securityGroup{}, keys: map[string]*keyPair{}, profiles: map[string]string{},
		roles: map[string]bool{}, placements: map[string]bool{}, templates: map[string]*launchTemplate{}, rootTasks: map[string]*rootTask{},
		imports: map[string]*importTask{}, commands: map[string]*command{}, handled: map[string]handledToken{}, offered: map[string][]string{},
	}
}

// lockCloud takes the lock and brings all states up to now; the caller runs
// what it returns.
func (e *Emulator) lockCloud() (unlock func()) {
	e.cloud.mu.Lock()
	e.settleCloud(e.now())
	return e.cloud.mu.Unlock
}

func (e *Emulator) settleCloud(now time.Time) {
	cl := e.cloud
	for _, i := range cl.instances {
		e.settleInstance(i, now)
	}
	for _, v := range cl.volumes {
		e.settleVolume(v, now)
	}
	for _, m := range cl.images {
		m.step(now)
	}
	for _, t := range cl.rootTasks {
		e.settleRootTask(t, now)
	}
	for _, t := range cl.imports {
		e.settleImport(t, now)
	}
}

// meta is what all resources of the cloud have. The cloud's lock guards it.
type meta struct {
	id     string
	op     string // the call that made it; empty for what a test set up
	made   time.Time
	tags   tagSet
	stale  tagSet    // what is shown until the change of tags has spread
	tagged time.Time // when the tags changed
}

func (c *call) newMeta(prefix string, tags []tag) meta {
	now := c.e.now()
	m := meta{id: newID(prefix), op: c.op, made: now, tagged: now}
	for _, t := range tags {
		m.tags.set(t.Key, t.Value)
	}
	return m
}

// visible reports whether the resource has spread to where requests are served.
func (e *Emulator) visible(m *meta) bool {
	return m.op == "" || !e.now().Before(m.made.Add(e.opt.VisibleDelay))
}

// shownTags are the tags that a Describe call knows of.
func (e *Emulator) shownTags(m *meta) []tag {
	if e.now().Before(m.tagged.Add(e.opt.TagDelay)) {
		return m.stale.list()
	}
	return m.tags.list()
}

// retag makes the tags of now the stale ones, before they change.
func (m *meta) retag(e *Emulator) {
	if !e.now().Before(m.tagged.Add(e.opt.TagDelay)) {
		m.stale = m.tags.clone()
	}
	m.tagged = e.now()
}

// timed is a state that another will follow at a known time.
type timed struct {
	state, next string
	at          time.Time
	since       time.Time
}

func (t *timed) enter(state string, now time.Time) { *t = timed{state: state, since: now} }

// then makes next follow the state that was entered, after d.
func (t *timed) then(next string, d time.Duration) {
	t.next, t.at = next, t.since.Add(d)
}

// step goes to the next state if its time has come, and reports whether it did.
func (t *timed) step(now time.Time) bool {
	if t.next == "" || now.Before(t.at) {
		return false
	}
	t.enter(t.next, t.at)
	return true
}

// handledToken is what a client token stands for.
type handledToken struct {
	request string // the parameters, encoded
	answer  func() any
}

// repeated finds what an earlier call with the same token did. Tokens are never
// forgotten: EC2 promises a day at least, and after an instance has ended its
// token still answers with it.
func (c *call) repeated(token string) (answer func() any, err *apiError) {
	if token == "" {
		return nil, nil
	}
	h, ok := c.e.cloud.handled[c.op+"/"+token]
	if !ok {
		return nil, nil
	}
	if h.request != c.fingerprint() {
		return nil, ec2Fault("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
	}
	return h.answer, nil
}

// remember keeps the answer for repeats; it is made anew for each, as EC2
// answers a repeat with the present state.
func (c *call) remember(token string, answer func() any) {
	if token != "" {
		c.e.cloud.handled[c.op+"/"+token] = handledToken{c.fingerprint(), answer}
	}
}

// fingerprint is the request's parameters but those that may differ.
func (c *call) fingerprint() string {
	values := map[string][]string{}
	for k, v := range c.params.values {
		if k != "DryRun" && k != "ClientToken" {
			values[k] = v
		}
	}
	return encodeValues(values)
}
