package aws

import (
	"fmt"
	"strconv"
	"time"
)

// importTask is an ImportImage from snapshots.
type importTask struct {
	meta
	timed     // active, completed, deleted
	text      string
	role      string
	bootMode  string
	platform  string
	license   string
	usage     string
	arch      string
	encrypted bool
	kmsKey    string
	disks     []*snapshot
	results   []string // snapshots that it made
	image     string
	fails     bool
}

// importSteps are the status messages on the way.
var importSteps = []string{"pending", "converting", "updating", "booting", "booted", "preparing ami"}

// importParams takes the parameters of ImportImage.
func (p *params) importParams() *importTask {
	t := &importTask{
		text: p.str("Description"), role: p.str("RoleName"), bootMode: p.oneOf("BootMode", bootLegacy, bootUEFI, bootPreferred),
		platform: p.oneOf("Platform", "Windows", "Linux"), license: p.oneOf("LicenseType", "AWS", "BYOL"), usage: p.str("UsageOperation"),
		arch: p.oneOf("Architecture", "i386", "x86_64", "arm64"), encrypted: p.boolean("Encrypted"), kmsKey: p.str("KmsKeyId"),
	}
	orElse(&t.role, "vmimport")
	p.oneOf("Hypervisor", "xen")
	if t.kmsKey != "" && !t.encrypted {
		p.fail("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	if t.usage != "" && t.license != "" {
		p.fail("InvalidParameterCombination", "LicenseType and UsageOperation cannot both be specified.")
	}
	if (t.bootMode == bootUEFI || t.bootMode == bootPreferred) && t.platform == "" {
		p.fail("MissingParameter", "The request must contain the parameter Platform where a UEFI machine is imported from a snapshot.")
	}
	return t
}

func (c *call) importImage(p *params) (any, *apiError) {
	t, token, disks := p.importParams(), p.str("ClientToken"), p.diskContainers()
	tags := p.tagSpecifications("import-image-task")
	if err := p.complete(); err != nil {
		return nil, err
	}
	if err := c.mayTag(len(tags) > 0); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	if answer, err := c.repeated(token); err != nil || answer != nil {
		if err != nil {
			return nil, err
		}
		return answer(), nil
	}
	if !e.cloud.roles[t.role] {
		return nil, ec2Fault("InvalidParameter", "The service role %s provided does not exist or does not have sufficient permissions", t.role)
	}
	for _, id := range disks {
		s, err := e.launchable(id)
		if err != nil {
			return nil, err
		}
		t.disks = append(t.disks, s)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	t.meta, t.fails = c.newMeta("import-ami", tags), c.lie == lieFailure
	t.enter("active", e.now())
	t.then("completed", e.opt.TaskDelay)
	if t.fails {
		t.then("deleted", e.opt.TaskDelay)
	}
	e.cloud.imports[t.id] = t
	answer := func() any { return e.describeImport(t) }
	c.remember(token, answer)
	return answer(), nil
}

// diskContainers takes the snapshots to import; the first is the root.
func (p *params) diskContainers() []string {
	var out []string
	for _, n := range p.numbers("DiskContainer") {
		prefix := fmt.Sprintf("DiskContainer.%d.", n)
		for _, k := range []string{"Description", "DeviceName", "Format"} {
			p.str(prefix + k)
		}
		out = append(out, p.required(prefix+"SnapshotId"))
	}
	if len(out) == 0 {
		p.fail("MissingParameter", "The request must contain the parameter DiskContainer")
	}
	return out
}

func (e *Emulator) settleImport(t *importTask, now time.Time) {
	if !t.step(now) || t.state != "completed" {
		return
	}
	img := &machineImage{
		meta: meta{id: newID("ami"), op: t.op, made: t.since}, name: t.id, description: t.text, owner: e.opt.AccountID, arch: t.arch,
		virtualization: "hvm", bootMode: t.bootMode, rootDevice: "/dev/sda1", ena: true, platformDetails: "Linux/UNIX", usage: "RunInstances",
	}
	orElse(&img.arch, "x86_64")
	orElse(&img.bootMode, bootLegacy)
	if t.platform == "Windows" {
		img.platform, img.platformDetails, img.usage = "windows", "Windows", "RunInstances:0002"
		if t.license == "BYOL" {
			img.platformDetails, img.usage = "Windows BYOL", "RunInstances:0800"
		}
	}
	if t.usage != "" {
		img.usage = t.usage
	}
	for n, disk := range t.disks {
		s := e.importDisk(t, disk)
		t.results = append(t.results, s.id)
		device := img.rootDevice
		if n > 0 {
			device = "/dev/sd" + string(rune('e'+n))
		}
		img.mappings = append(img.mappings, mapping{device: device, ebs: &volumeSpec{snapshotID: s.id}})
	}
	img.enter("available", t.since)
	if err := e.addImage(img); err == nil {
		t.image = img.id
	}
}

// importDisk makes the snapshot of the converted disk. The emulator converts
// nothing: its blocks are those of the source.
func (e *Emulator) importDisk(t *importTask, from *snapshot) *snapshot {
	s := &snapshot{
		id: newID("snap"), owner: e.opt.AccountID, size: from.size, encrypted: from.encrypted || t.encrypted, kmsKey: from.kmsKey,
		description: "Created by AWS-VMImport service for " + t.id, started: t.since, timeout: time.Hour, layer: from.layer,
		state: stateCompleted, completedAt: t.since,
	}
	if t.encrypted {
		s.kmsKey = e.fullKey(t.kmsKey)
	}
	s.rootID = s.id
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.encrypted && s.kmsKey == "" {
		s.kmsKey = e.kmsDefault
	}
	e.snapshots[s.id] = s
	return s
}

type xmlSnapshotDetail struct {
	Device   string `xml:"deviceName,omitempty"`
	Format   string `xml:"format"`
	Snapshot string `xml:"snapshotId,omitempty"`
	Status   string `xml:"status"`
	Size     string `xml:"diskImageSize"`
}

type xmlImport struct {
	ID       string                    `xml:"importTaskId"`
	Status   string                    `xml:"status"`
	Message  string                    `xml:"statusMessage,omitempty"`
	Progress string                    `xml:"progress,omitempty"`
	Arch     string                    `xml:"architecture,omitempty"`
	BootMode string                    `xml:"bootMode,omitempty"`
	Text     string                    `xml:"description,omitempty"`
	Image    string                    `xml:"imageId,omitempty"`
	Platform string                    `xml:"platform,omitempty"`
	License  string                    `xml:"licenseType,omitempty"`
	Usage    string                    `xml:"usageOperation,omitempty"`
	Crypt    bool                      `xml:"encrypted"`
	Disks    xmlSet[xmlSnapshotDetail] `xml:"snapshotDetailSet"`
	TagSet   *xmlTags                  `xml:"tagSet"`
}

func (x xmlImport) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{"task-state": x.Status}}
}

func (e *Emulator) describeImport(t *importTask) xmlImport {
	x := xmlImport{
		ID: t.id, Status: t.state, Arch: t.arch, BootMode: t.bootMode, Text: t.text, Image: t.image, Platform: t.platform, License: t.license,
		Usage: t.usage, Crypt: t.encrypted, TagSet: xmlTagSet(e.shownTags(&t.meta)),
	}
	switch t.state {
	case "active":
		part := float64(e.now().Sub(t.since)) / float64(max(e.opt.TaskDelay, 1))
		x.Progress = strconv.Itoa(int(part*100) % 100)
		x.Message = importSteps[min(int(part*float64(len(importSteps))), len(importSteps)-1)]
	case "deleted":
		x.Message = "ClientError: Unknown OS / Missing OS files."
	}
	for n, d := range t.disks {
		disk := xmlSnapshotDetail{Format: "RAW", Status: t.state, Size: strconv.FormatInt(d.size<<30, 10), Device: "/dev/sda1"}
		if n > 0 {
			disk.Device = "/dev/sd" + string(rune('e'+n))
		}
		if n < len(t.results) {
			disk.Snapshot = t.results[n]
		}
		x.Disks.Items = append(x.Disks.Items, disk)
	}
	return x
}

func (c *call) describeImports(p *params) (any, *apiError) {
	ids, g := p.list("ImportTaskId"), p.paging(1, 1000)
	fs := p.filtersNamed("Filters")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	items, err := shown(e, e.cloud.imports, func(t *importTask) *meta { return &t.meta }, ids, func(id string) *apiError {
		return ec2Fault("InvalidConversionTaskId.Malformed", "Task id %s not found", id)
	}, e.describeImport)
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlImport] `xml:"importImageTaskSet"`
		Next *string           `xml:"nextToken,omitempty"`
	}{xmlSet[xmlImport]{items}, next}, err
}
