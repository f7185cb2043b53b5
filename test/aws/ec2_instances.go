package aws

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// instance is an EC2 instance. The cloud's lock guards it.
type instance struct {
	meta
	timed
	image       *machineImage
	kind        instanceType
	spec        runSpec
	bootMode    string
	zone        string
	profile     string
	reservation string
	token       string
	launched    time.Time
	launchIndex int
	nics        []*networkInterface
	reason      *xmlReason
	why         string // the state transition reason
	shutdown    string
	noTerminate bool
	noStop      bool
	stuck       bool // a stop that ends only by force
	ill         bool // the guest does not come up
	badHost     bool // the host is impaired
	console     *string
	commands    int
}

// Codes of the instance states; the high byte of the service is left at zero.
var instanceCodes = map[string]int{"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

// terminatedShown is how long an instance is shown after its end.
const terminatedShown = time.Hour

func (e *Emulator) settleInstance(i *instance, now time.Time) {
	for i.step(now) {
		if i.state == "terminated" {
			e.release(i)
		}
	}
	if i.state == "terminated" && !now.Before(i.since.Add(terminatedShown)) {
		delete(e.cloud.instances, i.id)
	}
}

// release lets go of the volumes and interfaces of an instance that has ended.
func (e *Emulator) release(i *instance) {
	for _, v := range e.volumesOf(i) {
		remove := v.attached.remove
		v.attached = nil
		v.enter("available", e.now())
		if remove {
			e.removeVolume(v)
		}
	}
	for _, n := range i.nics {
		n.instance = nil
		if n.remove {
			e.dropInterface(n)
		}
	}
	i.nics = nil
}

// makeInstance makes the nth instance of a launch, its volumes and interfaces.
func (c *call) makeInstance(l *launch, n int, reservation, token string) *instance {
	e, s := c.e, l.spec
	i := &instance{
		meta: c.newMeta("i", s.tags["instance"]), image: l.image, kind: l.kind, spec: s, bootMode: l.bootMode, zone: l.zone, profile: l.profile,
		reservation: reservation, token: token, launched: e.now(), launchIndex: n, shutdown: s.shutdown,
		noTerminate: s.noTermination != nil && *s.noTermination, noStop: s.noStop != nil && *s.noStop,
		ill: c.lie == LieNoBoot, badHost: c.lie == LieBadHost,
	}
	orElse(&i.shutdown, "stop")
	i.enter("pending", i.launched)
	i.then("running", e.opt.BootDelay)
	for _, p := range l.nics[n] {
		c.giveInterface(i, p)
	}
	for _, m := range l.mappings {
		if !c.giveVolume(i, m) {
			i.doom("Client.InternalError", "Client.InternalError: Client error on launch", e.opt.BootDelay)
		}
	}
	if c.lie == lieFailure {
		detail := c.rule.Detail
		orElse(&detail, "Server.InternalError")
		i.doom(detail, detail+": the launch failed", e.opt.BootDelay)
	}
	e.cloud.instances[i.id] = i
	return i
}

// doom lets a pending instance end instead of run.
func (i *instance) doom(code, message string, d time.Duration) {
	i.reason, i.why = &xmlReason{code, message}, code
	i.then("terminated", d)
}

func (c *call) giveInterface(i *instance, p plannedInterface) {
	n := p.old
	if n == nil {
		n = c.e.newInterface(c.newMeta("eni", i.spec.tags["network-interface"]), p.subnet, p.ip, p.groups)
		n.text = p.text
	}
	n.instance, n.index, n.remove, n.attachmentID = i, p.index, p.remove, newID("eni-attach")
	if p.publicIP {
		n.publicIP = publicAddress(n.id)
	}
	i.nics = append(i.nics, n)
	slices.SortFunc(i.nics, func(a, b *networkInterface) int { return int(a.index - b.index) })
}

// giveVolume makes a volume of the launch; false means that its key is no good.
func (c *call) giveVolume(i *instance, m mapping) bool {
	e := c.e
	var snap *snapshot
	if m.ebs.snapshotID != "" {
		snap = e.lookup(m.ebs.snapshotID)
	}
	v, err := c.newVolume(c.newMeta("vol", i.spec.tags["volume"]), *m.ebs, i.zone, snap)
	if err != nil {
		return false
	}
	e.cloud.volumes[v.id] = v
	// At launch the API deletes data volumes with the instance too, as it does
	// the root volume.
	e.attach(v, i, m.device, m.ebs.remove == nil || *m.ebs.remove, e.opt.BootDelay)
	return !v.keyUnknown
}

var instanceID = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)

// instance finds an instance that requests can see, ended ones among them.
func (e *Emulator) instance(id string) (*instance, *apiError) {
	if !instanceID.MatchString(id) {
		return nil, ec2Fault("InvalidInstanceID.Malformed", "Invalid id: \"%s\"", id)
	}
	i := e.cloud.instances[id]
	if i == nil || !e.visible(&i.meta) {
		return nil, ec2Fault("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	}
	return i, nil
}

// liveInstance is instance for calls that one in its end is no use to.
func (e *Emulator) liveInstance(id string) (*instance, *apiError) {
	i, err := e.instance(id)
	if err == nil && (i.state == "terminated" || i.state == "shutting-down") {
		return nil, ec2Fault("IncorrectInstanceState", "The instance '%s' is not in a state for this: it is %s.", id, i.state)
	}
	return i, err
}

// instancesNamed finds the instances of a call by InstanceId.N; all of them
// must be there.
func (e *Emulator) instancesNamed(ids []string) ([]*instance, *apiError) {
	if len(ids) == 0 {
		return nil, ec2Fault("MissingParameter", "The request must contain the parameter InstanceId")
	}
	var out []*instance
	for _, id := range ids {
		i, err := e.instance(id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out, nil
}

// health is what the status checks say: of the host and of the guest.
func (e *Emulator) health(i *instance) (system, guest string) {
	if i.state != "running" {
		return "not-applicable", "not-applicable"
	}
	if e.now().Before(i.since.Add(e.opt.StatusDelay)) {
		return "initializing", "initializing"
	}
	system, guest = "ok", "ok"
	if i.badHost {
		system = "impaired"
	}
	if i.ill || i.badHost {
		guest = "impaired"
	}
	return system, guest
}

func (e *Emulator) privateDNS(ip string) string {
	if ip == "" {
		return ""
	}
	zone := e.opt.Region + ".compute.internal"
	if e.opt.Region == "us-east-1" {
		zone = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + "." + zone
}
