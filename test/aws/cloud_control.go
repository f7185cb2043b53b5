package aws

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Resource is one thing of the account that somebody pays for or has to tidy up.
type Resource struct {
	// Kind is the EC2 resource type: snapshot, image, instance, volume,
	// network-interface, launch-template, replace-root-volume-task,
	// import-image-task.
	Kind, ID, State string
	Tags            map[string]string
	// MadeBy is the call that made it; empty for what a test set up.
	MadeBy string
	Made   time.Time
}

// Tagged reports whether a tag key of the resource begins with prefix.
func (r Resource) Tagged(prefix string) bool {
	for k := range r.Tags {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}

// Inventory lists what the account holds now and what calls have made, or what
// carries a tag: snapshots, images, instances, volumes, network interfaces and
// launch templates, and tasks that have not ended. Ended instances, which cost
// nothing and cannot be deleted, are left out; so is what delays of visibility
// and tags would hide from a client's own listing not. What a test set up is
// left out unless it has tags.
func (e *Emulator) Inventory() []Resource {
	out := e.snapshotResources()
	defer e.lockCloud()()
	add := func(kind, state string, m *meta) {
		if m.op != "" || len(m.tags.m) > 0 {
			out = append(out, Resource{kind, m.id, state, maps.Collect(m.tags.all()), m.op, m.made})
		}
	}
	for _, img := range e.cloud.images {
		if !img.gone {
			add("image", img.state, &img.meta)
		}
	}
	for _, i := range e.cloud.instances {
		if i.state != "terminated" {
			add("instance", i.state, &i.meta)
		}
	}
	for _, v := range e.cloud.volumes {
		add("volume", v.state, &v.meta)
	}
	for _, n := range e.cloud.interfaces {
		state := "available"
		if n.instance != nil {
			state = "in-use"
		}
		add("network-interface", state, &n.meta)
	}
	for _, t := range e.cloud.templates {
		add("launch-template", "", &t.meta)
	}
	for _, t := range e.cloud.rootTasks {
		if t.next != "" {
			add("replace-root-volume-task", t.state, &t.meta)
		}
	}
	for _, t := range e.cloud.imports {
		if t.next != "" {
			add("import-image-task", t.state, &t.meta)
		}
	}
	slices.SortFunc(out, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (e *Emulator) snapshotResources() []Resource {
	var out []Resource
	for _, s := range e.Snapshots() {
		if s.Owner == e.opt.AccountID {
			out = append(out, Resource{"snapshot", s.ID, s.State, s.Tags, opStart, s.StartTime})
		}
	}
	return out
}

// Lineup is an instance as a test sees it, whatever delays hide from clients.
type Lineup struct {
	ID, State, Type, Zone, Image, BootMode, Platform, UsageOperation string
	Tags                                                             map[string]string
	UserData                                                         string // base64, as it was given
	IPs                                                              []string
	Root                                                             string            // volume ID
	Volumes                                                          map[string]string // volume ID by device
}

// Instances lists the instances that exist, ended ones among them for an hour.
func (e *Emulator) Instances() []Lineup {
	defer e.lockCloud()()
	all := slices.Collect(maps.Values(e.cloud.instances))
	slices.SortFunc(all, func(a, b *instance) int { return cmp.Or(a.made.Compare(b.made), cmp.Compare(a.id, b.id)) })
	var out []Lineup
	for _, i := range all {
		l := Lineup{
			ID: i.id, State: i.state, Type: i.kind.name, Zone: i.zone, Image: i.image.id, BootMode: i.bootMode, Platform: i.image.platform,
			UsageOperation: i.image.usage, Tags: maps.Collect(i.tags.all()), UserData: i.spec.userData, Volumes: map[string]string{},
		}
		for _, n := range i.nics {
			l.IPs = append(l.IPs, n.ip.String())
		}
		for _, v := range e.volumesOf(i) {
			l.Volumes[v.attached.device] = v.id
			if v.attached.device == i.image.rootDevice {
				l.Root = v.id
			}
		}
		out = append(out, l)
	}
	return out
}

// withInstance runs f on an instance that exists.
func (e *Emulator) withInstance(id, doing string, f func(*instance)) error {
	defer e.lockCloud()()
	i := e.cloud.instances[id]
	if i == nil {
		return fmt.Errorf("%s of %s: no such instance", doing, id)
	}
	f(i)
	return nil
}

// SetConsole sets what GetConsoleOutput gives of an instance once it runs.
func (e *Emulator) SetConsole(instanceID, text string) error {
	return e.withInstance(instanceID, "set the console", func(i *instance) { i.console = &text })
}

// SetHealth says how the status checks of an instance turn out: host is the
// system check, guest the instance check.
func (e *Emulator) SetHealth(instanceID string, host, guest bool) error {
	return e.withInstance(instanceID, "set the health", func(i *instance) { i.badHost, i.ill = !host, !guest })
}

// TerminateOutOfBand ends an instance as somebody else with the right to do so.
func (e *Emulator) TerminateOutOfBand(instanceID string) error {
	return e.withInstance(instanceID, "end", func(i *instance) {
		i.enter("terminated", e.now())
		e.release(i)
	})
}

// AddRole sets up an IAM role that a service can take: ImportImage wants
// "vmimport".
func (e *Emulator) AddRole(name string) {
	defer e.lockCloud()()
	e.cloud.roles[name] = true
}

// StockImage describes an AMI that AWS or a vendor provides.
type StockImage struct {
	Name, Description string
	// Owner is the account that provides it, Alias what DescribeImages calls
	// that account; they default to AWS's own, 801119661308 and amazon.
	Owner, Alias string
	// Arch defaults to x86_64, BootMode to none, RootDevice to /dev/sda1,
	// SizeGiB to 8.
	Arch, BootMode, RootDevice string
	SizeGiB                    int64
	// Windows is the AMI of a Windows that AWS bills; it sets the platform, its
	// details ("Windows") and the usage operation ("RunInstances:0002"), which
	// Details and Usage can change.
	Windows        bool
	Details, Usage string
	IMDS, TPM      string // "v2.0" or empty
	NoENA          bool
}

// AddStockImage sets up a public AMI of another account, with a root snapshot
// of zeros that belongs to that account too.
func (e *Emulator) AddStockImage(s StockImage) (id string, err error) {
	for to, v := range map[*string]string{
		&s.Owner: "801119661308", &s.Alias: "amazon", &s.Arch: "x86_64", &s.RootDevice: "/dev/sda1", &s.Details: "Linux/UNIX", &s.Usage: "RunInstances",
	} {
		if s.Windows && v == "Linux/UNIX" {
			v = "Windows"
		}
		if s.Windows && v == "RunInstances" {
			v = "RunInstances:0002"
		}
		orElse(to, v)
	}
	if s.SizeGiB == 0 {
		s.SizeGiB = 8
	}
	img := &machineImage{
		meta: e.setUp("ami"), name: s.Name, description: s.Description, owner: s.Owner, alias: s.Alias, arch: s.Arch, virtualization: "hvm",
		bootMode: s.BootMode, rootDevice: s.RootDevice, imds: s.IMDS, tpm: s.TPM, ena: !s.NoENA, public: true,
		platformDetails: s.Details, usage: s.Usage,
	}
	if s.Windows {
		img.platform = "windows"
	}
	if fault := img.checkBoot(); fault != nil {
		return "", fmt.Errorf("add image %s: %s", s.Name, fault.message)
	}
	snap := e.AddForeign(s.Owner, s.SizeGiB, nil)
	img.mappings = []mapping{{device: s.RootDevice, ebs: &volumeSpec{snapshotID: snap}}}
	img.enter("available", img.made)
	defer e.lockCloud()()
	if fault := e.addImage(img); fault != nil {
		return "", fmt.Errorf("add image %s: %s", s.Name, fault.message)
	}
	return img.id, nil
}
