package launch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"snapferry/transfer"
)

// StepName names a step; job logs, crash tests and tokens know it by this.
type StepName string

// The steps of a launch, in their order.
const (
	StepPreflight StepName = "preflight"
	StepType      StepName = "type"
	StepPrevious  StepName = "previous"
	StepPreSync   StepName = "pre-sync"
	StepPowerOff  StepName = "power-off"
	StepFinalSync StepName = "final-sync"
	StepMark      StepName = "mark"
	StepConvert   StepName = "convert"
	StepImport    StepName = "import"
	StepImage     StepName = "image"
	StepRun       StepName = "run"
	StepRunning   StepName = "running"
	StepRoot      StepName = "root"
	StepData      StepName = "data"
	StepTag       StepName = "tag"
	StepStatus    StepName = "status"
	StepChecks    StepName = "checks"
	StepProve     StepName = "prove"
	StepStop      StepName = "stop"
)

// Steps of a way back and of an end; they are not of a launch.
const (
	StepHalt      StepName = "halt" // the instance is stopped
	StepSourceOn  StepName = "source-on"
	StepEndSync   StepName = "end-replication"
	StepEndTests  StepName = "end-tests"
	StepClean     StepName = "clean"
	StepPrune     StepName = "prune"
	StepTracking  StepName = "tracking"
	StepInventory StepName = "inventory"
)

// afterwards reports whether the step is no part of a launch.
func (s StepName) afterwards() bool {
	return slices.Contains([]StepName{StepHalt, StepSourceOn, StepEndSync, StepEndTests, StepClean, StepPrune, StepTracking, StepInventory, StepStop}, s)
}

// Step is a step of a plan.
type Step struct {
	Name StepName `json:"name"`
	Text string   `json:"text"` // what it does, for a person
	Done bool     `json:"done"`
}

// World is what a launch finds in AWS, and which of its steps leave no trace
// there but were done.
type World struct {
	Subnet            Subnet                           `json:"subnet"`
	EncryptsByDefault bool                             `json:"encryptsByDefault"`
	Image             *Image                           `json:"image,omitempty"` // the one to run: of the job, or the stock image
	Import            *ImportTask                      `json:"import,omitempty"`
	Instance          *Instance                        `json:"instance,omitempty"`
	Volumes           []VolumeSeen                     `json:"volumes,omitempty"` // of the job
	Marks             map[transfer.SnapshotID][]string `json:"marks,omitempty"`   // who uses the point's snapshots
	Previous          []Resource                       `json:"previous,omitempty"`
	Job               JobID                            `json:"job"`
	Type              string                           `json:"type,omitempty"`
	Did               map[StepName]bool                `json:"did,omitempty"`
}

// Subnet is the one of the first NIC.
type Subnet struct {
	ID   string `json:"id"`
	VPC  string `json:"vpc"`
	Zone string `json:"zone"`
	CIDR string `json:"cidr"`
}

// Image is an AMI.
type Image struct {
	ID        string                `json:"id"`
	State     string                `json:"state"`
	Why       string                `json:"why,omitempty"` // of a failed one
	Root      string                `json:"root"`          // device name
	Devices   []string              `json:"devices"`       // with EBS snapshots, the root first
	Snapshots []transfer.SnapshotID `json:"snapshots"`     // of those
	BootMode  string                `json:"bootMode"`
}

// ImportTask is one of ImportImage.
type ImportTask struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Message  string `json:"message,omitempty"`
	Progress string `json:"progress,omitempty"`
	Image    string `json:"image,omitempty"`
}

// Instance is one that was launched.
type Instance struct {
	ID        string            `json:"id"`
	State     string            `json:"state"`
	Why       string            `json:"why,omitempty"`
	Type      string            `json:"type"`
	Zone      string            `json:"zone"`
	Root      string            `json:"root"`
	Volumes   map[string]string `json:"volumes"` // by device
	PrivateIP string            `json:"privateIP,omitempty"`
	PublicIP  string            `json:"publicIP,omitempty"`
}

// alive: states in which an instance is or will be there.
func (i *Instance) alive() bool {
	return i != nil && i.State != "terminated" && i.State != "shutting-down"
}

// VolumeSeen is a volume of the job.
type VolumeSeen struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Ordinal  int    `json:"ordinal,omitempty"` // of the disk; 0 unknown
	Instance string `json:"instance,omitempty"`
	Attached string `json:"attached,omitempty"` // the attachment's state
}

func (w World) volume(ordinal int) *VolumeSeen {
	for i := range w.Volumes {
		if v := &w.Volumes[i]; v.Ordinal == ordinal && v.State != "deleting" && v.State != "deleted" && v.State != "error" {
			return v
		}
	}
	return nil
}

// Plan lists the steps of a launch, and which of them are done in this world.
func Plan(req Request, w World) []Step {
	s := req.Settings
	cut, aws := req.Purpose == ForCutover, s.Licence == LicenceAWS
	steps := planner{req: req, w: w}
	steps.add(true, StepPreflight, "check the settings, the subnet and the permissions")
	steps.add(s.InstanceType == "", StepType, "choose an instance type for %d CPUs and %d MiB that boots in mode %s", guest(req).CPUs, guest(req).MemoryMiB, bootMode(req))
	steps.add(true, StepPrevious, "%s", previousText(w.Previous))
	steps.add(cut, StepPreSync, "replicate once more while the source runs")
	steps.add(cut, StepPowerOff, "%s", powerOffText(s))
	steps.add(cut, StepFinalSync, "replicate what the source wrote last")
	steps.add(true, StepMark, "keep the %d snapshots of point %s from being pruned", len(req.Point.Disks), req.Point.Cycle)
	steps.add(s.Licence != LicenceImport, StepConvert, "%s", convertText(req))
	steps.add(s.Licence == LicenceImport, StepImport, "have AWS import the disks as an image of %s", s.Platform)
	steps.add(s.Licence == LicenceBYOL, StepImage, "register image %q: x86_64, hvm, ENA, boot mode %s, %d disks", w.Job.imageName(), bootMode(req), len(req.Point.Disks))
	steps.add(true, StepRun, "%s", runText(req, w))
	steps.add(true, StepRunning, "wait until the instance runs")
	steps.add(aws, StepRoot, "replace its root volume by one of the converted disk")
	steps.add(aws && len(req.Point.Disks) > 1, StepData, "attach %d data volumes", len(req.Point.Disks)-1)
	steps.add(true, StepTag, "tag its volumes, and say what becomes of them at its end")
	steps.add(s.WaitStatus, StepStatus, "wait for EC2's status checks")
	steps.add(len(s.Checks) > 0, StepChecks, "run %d checks", len(s.Checks))
	steps.add(s.WaitStatus || len(s.Checks) > 0, StepProve, "note on the point that it boots")
	steps.add(s.Stopped, StepStop, "stop the instance")
	return steps.steps
}

type planner struct {
	req   Request
	w     World
	steps []Step
}

func (p *planner) add(when bool, name StepName, format string, args ...any) {
	if when {
		p.steps = append(p.steps, Step{Name: name, Text: fmt.Sprintf(format, args...), Done: p.done(name)})
	}
}

// done: what leaves a trace in AWS is believed there and nowhere else.
func (p *planner) done(name StepName) bool {
	w := p.w
	switch name {
	case StepType:
		return w.Type != ""
	case StepMark:
		for _, d := range p.req.Point.Disks {
			if !slices.Contains(w.Marks[d.ID], string(w.Job)) {
				return false
			}
		}
		return len(p.req.Point.Disks) > 0
	case StepConvert:
		return w.Did[name] || w.Image != nil && p.req.Settings.Licence == LicenceBYOL || w.alive()
	case StepImport, StepImage:
		return w.Image != nil && w.Image.State == "available" || w.alive()
	case StepRun:
		return w.alive()
	case StepRunning:
		return w.alive() && (w.Instance.State == "running" || w.Did[StepStop])
	case StepRoot:
		v := w.volume(1)
		return w.alive() && v != nil && w.Instance.Volumes[w.Instance.Root] == v.ID
	case StepData:
		for n := 2; n <= len(p.req.Point.Disks); n++ {
			if v := w.volume(n); v == nil || v.Attached != "attached" {
				return false
			}
		}
		return true
	}
	return w.Did[name]
}

func (w World) alive() bool { return w.Instance.alive() }

func previousText(previous []Resource) string {
	if len(previous) == 0 {
		return "look for earlier launches; there are none"
	}
	var names []string
	for _, r := range previous {
		names = append(names, r.String())
	}
	return "end the earlier launch: " + strings.Join(names, ", ")
}

func convertText(req Request) string {
	if req.Settings.AsIs {
		return "take the guest on " + bootDisk(req) + " as it is, without making it ready for EC2"
	}
	return "make the guest on " + bootDisk(req) + " ready for EC2"
}

func powerOffText(s Settings) string {
	text := fmt.Sprintf("shut the source's guest down, for at most %v", s.ShutdownFor.Round(time.Second))
	if s.ForceOff {
		text += ", then power it off"
	}
	return text
}

func runText(req Request, w World) string {
	kind := w.Type
	if kind == "" {
		kind = "instance of the chosen type"
	}
	text := fmt.Sprintf("run one %s in %s (%s)", kind, w.Subnet.ID, w.Subnet.Zone)
	if req.Settings.Licence == LicenceAWS {
		text += " from stock image " + req.Settings.StockImage
	}
	return text
}

// boot is the disk that the guest boots from: the first of the point.
func (r Request) boot() *transfer.Snapshot {
	if len(r.Point.Disks) == 0 {
		return nil
	}
	return &r.Point.Disks[0]
}

func bootDisk(req Request) string {
	if b := req.boot(); b != nil {
		return b.Label.DiskLabel
	}
	return "the first disk"
}

func guest(req Request) transfer.Guest {
	if b := req.boot(); b != nil {
		return b.Label.Guest
	}
	return transfer.Guest{}
}

// bootMode follows the source's firmware unless it is set.
func bootMode(req Request) string {
	switch {
	case req.Settings.BootMode != "":
		return req.Settings.BootMode
	case guest(req).Firmware == "efi":
		return bootUEFI
	}
	return bootLegacy
}

// requirements are what the instance's type must have.
func requirements(req Request, w World, without []string) Requirements {
	g := guest(req)
	return Requirements{
		CPUs: g.CPUs, MemoryMiB: g.MemoryMiB, BootMode: bootMode(req), NICs: max(1, len(req.Settings.network(req.Force))),
		Volumes: len(req.Point.Disks), TPM: req.Settings.TPM, Burstable: req.Settings.Burstable, Zone: w.Subnet.Zone, Without: without,
	}
}
