package convert

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Deed is how something in the guest is changed.
type Deed string

// The deeds.
const (
	DeedWrite Deed = "write" // a file: Path, Content
	DeedMove  Deed = "move"  // Path to To, which stays beside
	DeedCopy  Deed = "copy"  // Path to To
	DeedRun   Deed = "run"   // a program of the guest, in the appliance: Args
	DeedHive  Deed = "hive"  // keys of a Windows registry hive: Path, Content as a .reg file
	DeedLay   Deed = "lay"   // the user's driver packages into folder To
)

// Change is one thing that is changed in the guest.
type Change struct {
	Do      Deed     `json:"do"`
	Path    string   `json:"path,omitempty"`
	To      string   `json:"to,omitempty"`
	Args    []string `json:"args,omitempty"`
	Mode    uint32   `json:"mode,omitempty"` // of a new file
	Content string   `json:"-"`
	What    string   `json:"what"` // for a person, one line
}

// Plan is what is to be changed in a guest, in this order, and what is doubtful.
type Plan struct {
	// Ready: nothing is to be changed, the point's own snapshot boots on EC2.
	Ready   bool     `json:"ready"`
	Guest   string   `json:"guest"` // what it is, for a person
	Changes []Change `json:"changes,omitempty"`
	Doubts  []string `json:"doubts,omitempty"`
	// Refused is why the guest cannot be converted, "" if it can.
	Refused string `json:"refused,omitempty"`
}

// Wishes are what the user may choose.
type Wishes struct {
	// CloudInit: "" leaves it as it is, "disable" keeps it from changing the
	// guest on its first boot, "enable" takes such a mark away.
	CloudInit string `json:"cloudInit,omitempty"`
	// KeepNetwork leaves the guest's network settings alone.
	KeepNetwork bool `json:"keepNetwork,omitempty"`
	// Drivers is a folder on the connector with driver packages (.inf, .sys,
	// .cat) for a Windows guest: AWS's NVMe and ENA drivers.
	Drivers string `json:"drivers,omitempty"`
}

// aside is where a file that is not to be read any more is kept: many programs
// read whatever is in their folder, whatever it is called.
func aside(p string) string { return path.Dir(p) + ".before-ec2/" + path.Base(p) }

// decision is a plan in the making.
type decision struct {
	Facts
	Wishes
	plan Plan
	// regenerate says why every initramfs must be made anew.
	regenerate string
	// cmdline are arguments that every kernel is to get.
	cmdline []string
	// rewritten are files as they will be.
	rewritten map[string]string
}

// Decide says what is to be changed in a guest. It is pure: the same facts and
// wishes give the same plan, and a plan of a guest that was changed by it is
// ready.
func Decide(f Facts, w Wishes) Plan {
	d := &decision{Facts: f, Wishes: w, rewritten: map[string]string{}}
	d.plan.Guest = f.name()
	switch {
	case f.OS == "windows" && f.Windows != nil:
		d.windows()
	case f.OS != "linux":
		d.plan.Refused = fmt.Sprintf("a guest of type %q cannot be converted: Linux and Windows can", f.OS)
	case f.Arch != "" && f.Arch != "x86_64":
		d.plan.Refused = fmt.Sprintf("the guest's programs are for %s, and only x86_64 can be converted", f.Arch)
	default:
		d.linux()
	}
	if d.plan.Refused != "" {
		d.plan.Changes = nil
	}
	d.plan.Ready = d.plan.Refused == "" && len(d.plan.Changes) == 0
	return d.plan
}

func (d *decision) linux() {
	d.families()
	d.fstab()
	d.crypttab()
	d.resume()
	d.network()
	d.pinned()
	d.initramfs()
	if d.plan.Refused != "" {
		return
	}
	d.bootLoader()
	d.firmware()
	d.tools()
	d.cloudInit()
	d.selinux()
}

// families says which guests this was tried on.
func (d *decision) families() {
	if d.Distro != "debian" {
		d.doubt("conversion was not tried on a real guest of the family %q", cmp.Or(d.Distro, "unknown"))
	}
}

func (d *decision) add(c Change) { d.plan.Changes = append(d.plan.Changes, c) }

func (d *decision) doubt(format string, args ...any) {
	d.plan.Doubts = append(d.plan.Doubts, fmt.Sprintf(format, args...))
}

// text is a file as it will be.
func (d *decision) text(path string) string {
	if t, ok := d.rewritten[path]; ok {
		return t
	}
	return d.Files[path]
}

// rewrite replaces a file if that makes a difference, and keeps the old one
// beside it.
func (d *decision) rewrite(path, content, what string) bool {
	old, exists := d.Files[path]
	if d.text(path) == content && exists {
		return false
	}
	if _, before := d.rewritten[path]; !before && exists && old != "" {
		d.add(Change{Do: DeedCopy, Path: path, To: path + ".before-ec2", What: "keep the old " + path})
	}
	d.rewritten[path] = content
	d.add(Change{Do: DeedWrite, Path: path, Content: content, Mode: 0o644, What: what})
	return true
}

// moveAside keeps a file where nothing reads it.
func (d *decision) moveAside(path, why string) {
	d.add(Change{Do: DeedMove, Path: path, To: aside(path), What: why})
}

// hasArg reports whether a kernel command line has an argument.
func hasArg(line, arg string) bool { return slices.Contains(strings.Fields(line), arg) }

// name is what a person calls the guest. The product's name of a lean Debian is
// a bare number.
func (f Facts) name() string {
	name := strings.TrimSpace(f.Product)
	if !strings.ContainsFunc(name, unicode.IsLetter) {
		name = strings.TrimSpace(f.Distro + " " + name)
	}
	return cmp.Or(name, f.OS, "unknown guest")
}
