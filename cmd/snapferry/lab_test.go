package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/rogpeppe/go-internal/testscript"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

// lab is the world of one script.
type lab struct {
	vc     *vcenter.VCenter
	aws    *aws.Emulator
	faults *fault.Set
	vms    map[string]*vcenter.VM
	puts   string // in flight per disk; empty is the default
}

// worlds has the lab of each script that runs, by its folder.
var worlds = newRegistry()

// labCommands are the commands of the scripts; each says how it is used when it
// is used wrongly.
var labCommands = map[string]func(*testscript.TestScript, bool, []string){
	"lab":        startLab,
	"vm":         command("vm NAME SIZE[,SIZE…] [off] [nocbt] [independent]", 2, (*lab).addVM),
	"write":      command("write VM DISK OFFSET BYTES SEED", 5, (*lab).write),
	"same":       command("same VM DISK FILE", 3, (*lab).same),
	"grow":       command("grow VM DISK BYTES", 3, (*lab).grow),
	"hand":       command("hand VM (takes a VM snapshot by hand)", 1, (*lab).byHand),
	"tidy":       command("tidy [kept] (nothing of ours is left, but kept drafts)", 0, (*lab).tidy),
	"deny":       command("deny PRIVILEGE (ec2:… and ebs:… are AWS actions)", 1, (*lab).deny),
	"fault":      command("fault OP KIND [detail=TEXT] [times=N]", 2, (*lab).fault),
	"expire":     command("expire (the AWS credentials)", 0, (*lab).expire),
	"lose":       command("lose SNAPSHOT (is deleted by somebody else)", 1, (*lab).lose),
	"retag":      command("retag SNAPSHOT KEY VALUE", 3, (*lab).retag),
	"wait-calls": command("wait-calls OPERATION N (of AWS, since the last wait)", 2, (*lab).waitCalls),
	"wait-file":  command("wait-file FILE TEXT", 2, (*lab).waitFile),
	"proxy":      command("proxy (the only way to both services)", 0, (*lab).startProxy),
	"docs":       command("docs FILE (runs its examples)", 1, (*lab).docs),
	"signal":     command("signal INT|TERM|KILL (to the background command)", 1, (*lab).signal),
	"json":       checkJSON,
	"jsonenv":    jsonToEnv,
}

// command turns a method into a command with at least n arguments.
func command(usage string, n int, f func(*lab, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < n {
			ts.Fatalf("usage: %s", usage)
		}
		l := worlds.get(ts)
		if l == nil {
			ts.Fatalf("there is no lab: begin with the command lab")
		}
		ts.Check(f(l, ts, args))
	}
}

// startLab starts both services and sets the environment that finds them.
// Words: latency=DURATION of each answer of AWS, puts=N in flight per disk,
// session (temporary credentials), kms (the account encrypts by default),
// noappliance.
func startLab(ts *testscript.TestScript, _ bool, words []string) {
	l := &lab{faults: fault.New(1), vms: map[string]*vcenter.VM{}}
	options := aws.Options{Faults: l.faults}
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch {
		case key == "latency":
			d, err := time.ParseDuration(value)
			ts.Check(err)
			options.Latency = d
		case key == "puts":
			l.puts = value
		case w == "session":
			options.SessionToken = "temporary"
		case w == "kms":
			options.EncryptionByDefault = true
		case w != "noappliance":
			ts.Fatalf("lab: unknown word %q", w)
		}
	}
	var err error
	l.aws, err = aws.New(options)
	ts.Check(err)
	ts.Defer(func() { ts.Check(l.aws.Close()) })
	dir := ts.MkAbs("vcenter")
	ts.Check(os.Mkdir(dir, 0o700))
	l.vc, err = vcenter.New(vcenter.Options{Dir: dir, Faults: l.faults})
	ts.Check(err)
	ts.Defer(func() { ts.Check(l.vc.Close()) })
	if !slices.Contains(words, "noappliance") {
		_, err = l.vc.AddAppliance("ferry")
		ts.Check(err)
	}
	l.setEnv(ts)
	worlds.set(ts, l)
}

func (l *lab) setEnv(ts *testscript.TestScript) {
	for _, kv := range l.aws.Env() {
		k, v, _ := strings.Cut(kv, "=")
		ts.Setenv(k, v)
	}
	u := l.vc.URL()
	password, _ := u.User.Password()
	ca := ts.MkAbs("vcenter-ca.pem")
	ts.Check(os.WriteFile(ca, l.vc.CACert(), 0o600))
	for k, v := range map[string]string{
		"GOVC_URL": u.Scheme + "://" + u.Host, "GOVC_USERNAME": u.User.Username(), "GOVC_PASSWORD": password, "GOVC_TLS_CA_CERTS": ca,
		"THUMBPRINT": l.vc.Thumbprint(), "APPLIANCE": "--sysfs-dir=" + l.vc.SysfsDir(), "DEVICES": "--dev-dir=" + l.vc.DevDir(),
	} {
		ts.Setenv(k, v)
	}
	config := ts.MkAbs(".config/snapferry/config.yaml")
	ts.Check(os.MkdirAll(filepath.Dir(config), 0o700))
	text := fmt.Sprintf("appliance:\n  sysfsDir: %s\n  devDir: %s\n", l.vc.SysfsDir(), l.vc.DevDir())
	if l.puts != "" {
		text += "transfer:\n  puts: " + l.puts + "\n"
	}
	ts.Check(os.WriteFile(config, []byte(text), 0o600))
}

func (l *lab) addVM(_ *testscript.TestScript, args []string) error {
	spec := vcenter.VMSpec{Name: args[0], CBT: true}
	if dir, name := filepath.Split(args[0]); dir != "" {
		spec.Folder, spec.Name = strings.TrimSuffix(dir, "/"), name
	}
	for _, s := range strings.Split(args[1], ",") {
		size, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return err
		}
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: size})
	}
	for _, w := range args[2:] {
		switch w {
		case "off":
			spec.PoweredOff = true
		case "nocbt":
			spec.CBT = false
		case "independent":
			spec.Disks[len(spec.Disks)-1].Mode = "independent_persistent"
		default:
			return fmt.Errorf("vm: unknown word %q", w)
		}
	}
	vm, err := l.vc.AddVM(spec)
	l.vms[args[0]] = vm
	return err
}

// disk finds a disk by VM and number from 1.
func (l *lab) disk(vm, n string) (*vcenter.Disk, error) {
	v := l.vms[vm]
	if v == nil {
		return nil, fmt.Errorf("the script made no VM %s", vm)
	}
	i, err := strconv.Atoi(n)
	disks := v.Disks()
	if err != nil || i < 1 || i > len(disks) {
		return nil, fmt.Errorf("%s has no disk %s", vm, n)
	}
	return disks[i-1], nil
}

func (l *lab) write(_ *testscript.TestScript, args []string) error {
	d, err := l.disk(args[0], args[1])
	if err != nil {
		return err
	}
	var n [3]int64 // offset, bytes, seed
	for i, a := range args[2:5] {
		if n[i], err = strconv.ParseInt(a, 10, 64); err != nil {
			return err
		}
	}
	buf := make([]byte, n[1])
	if n[2] != 0 { // seed 0 writes zeros
		random := rand.NewChaCha8([32]byte{byte(n[2]), byte(n[2] >> 8)})
		_, _ = random.Read(buf)
	}
	_, err = d.WriteAt(buf, n[0])
	return err
}

// same compares a disk as the guest has it now with a file.
func (l *lab) same(ts *testscript.TestScript, args []string) error {
	d, err := l.disk(args[0], args[1])
	if err != nil {
		return err
	}
	f, err := os.Open(ts.MkAbs(args[2]))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() != d.Size() {
		return fmt.Errorf("the file has %d bytes, the disk %d: %v", st.Size(), d.Size(), err)
	}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < d.Size(); off += int64(len(a)) {
		n := min(int64(len(a)), d.Size()-off)
		if _, err := d.ReadAt(a[:n], off); err != nil {
			return err
		}
		if _, err := f.ReadAt(b[:n], off); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return fmt.Errorf("they differ within the MiB at %d", off)
		}
	}
	return nil
}

func (l *lab) grow(_ *testscript.TestScript, args []string) error {
	d, err := l.disk(args[0], args[1])
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	return d.Grow(n)
}

func (l *lab) byHand(_ *testscript.TestScript, args []string) error {
	_, err := l.vms[args[0]].TakeSnapshot("by hand")
	return err
}

// tidy holds the state of both services against what a user expects after any
// end of the program.
func (l *lab) tidy(_ *testscript.TestScript, args []string) error {
	s := l.vc.State()
	var bad []string
	for _, vm := range s.VMs {
		for _, snap := range vm.Snapshots {
			if snap.Name != "by hand" {
				bad = append(bad, vm.Name+" has the VM snapshot "+snap.Name)
			}
		}
		if len(vm.Missing) > 0 || vm.ConsolidationNeeded || vm.Crashed {
			bad = append(bad, fmt.Sprintf("%s: missing %v, consolidation needed %v, crashed %v", vm.Name, vm.Missing, vm.ConsolidationNeeded, vm.Crashed))
		}
	}
	for _, a := range s.Attached {
		bad = append(bad, "attached: "+a.File)
	}
	for _, snap := range l.aws.Snapshots() {
		if snap.State == "pending" && !slices.Contains(args, "kept") {
			bad = append(bad, "pending: "+snap.ID)
		}
	}
	if len(s.Deleted)+len(s.Harms)+len(s.Surprises) > 0 {
		bad = append(bad, fmt.Sprintf("deleted %v, harms %v, surprises %v", s.Deleted, s.Harms, s.Surprises))
	}
	if misuse := l.aws.Misuse(); len(misuse) > 0 {
		bad = append(bad, misuse...)
	}
	if unfired := l.faults.Unfired(); len(unfired) > 0 {
		bad = append(bad, fmt.Sprintf("faults that never happened: %v", unfired))
	}
	if len(bad) > 0 {
		return fmt.Errorf("not tidy:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}

func (l *lab) deny(_ *testscript.TestScript, args []string) error {
	if service, _, ok := strings.Cut(args[0], ":"); ok && (service == "ec2" || service == "ebs") {
		l.aws.Deny(func(action string) bool { return action == args[0] })
		return nil
	}
	l.vc.Deny(args[0])
	return nil
}

func (l *lab) fault(_ *testscript.TestScript, args []string) error {
	r := fault.Rule{Op: args[0], Kind: fault.Kind(args[1])}
	for _, a := range args[2:] {
		key, value, _ := strings.Cut(a, "=")
		var err error
		switch key {
		case "detail":
			r.Detail = value
		case "times":
			r.Times, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("fault: unknown word %q", a)
		}
		if err != nil {
			return err
		}
	}
	l.faults.Add(r)
	return nil
}

func (l *lab) expire(*testscript.TestScript, []string) error {
	l.aws.ExpireCredentials()
	return nil
}

func (l *lab) lose(_ *testscript.TestScript, args []string) error {
	return l.aws.DeleteOutOfBand(args[0])
}

// retag changes a tag as somebody with the AWS console would.
func (l *lab) retag(ts *testscript.TestScript, args []string) error {
	client := ec2.New(ec2.Options{
		Region: ts.Getenv("AWS_REGION"), BaseEndpoint: awssdk.String(l.aws.EC2Endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider(ts.Getenv("AWS_ACCESS_KEY_ID"), ts.Getenv("AWS_SECRET_ACCESS_KEY"), ts.Getenv("AWS_SESSION_TOKEN")),
	})
	_, err := client.CreateTags(context.Background(), &ec2.CreateTagsInput{
		Resources: []string{args[0]}, Tags: []types.Tag{{Key: awssdk.String(args[1]), Value: awssdk.String(args[2])}},
	})
	return err
}

// waitLimit is how long a script waits for what must come.
const waitLimit = 30 * time.Second

// waitCalls returns once AWS had so many calls of an operation.
func (l *lab) waitCalls(_ *testscript.TestScript, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	defer l.aws.ResetCalls()
	return until(func() bool { return l.aws.Calls()[args[0]] >= n })
}

// waitFile returns once a file has a text in it.
func (l *lab) waitFile(ts *testscript.TestScript, args []string) error {
	return until(func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && bytes.Contains(b, []byte(args[1]))
	})
}

func until(done func() bool) error {
	for end := time.Now().Add(waitLimit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("it did not come within %v", waitLimit)
		}
	}
	return nil
}

// docs runs every line of a page that begins with "    $ ", in order. One that
// must fail says so at its end: "# exit 2".
func (l *lab) docs(ts *testscript.TestScript, args []string) error {
	page, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	ran := 0
	for line := range strings.Lines(string(page)) {
		text, ok := strings.CutPrefix(line, "    $ ")
		if !ok {
			continue
		}
		text, status, ok := strings.Cut(strings.TrimSpace(text), "# exit ")
		if !ok {
			status = "0"
		}
		ts.Logf("%s", text)
		if err := ts.Exec("exits", status, "sh", "-c", text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		ran++
	}
	if ran == 0 {
		return fmt.Errorf("%s has no example", args[0])
	}
	return nil
}

func (l *lab) signal(ts *testscript.TestScript, args []string) error {
	which := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]
	running := ts.BackgroundCmds()
	if which == 0 || len(running) == 0 {
		return fmt.Errorf("no signal %s, or no command to send it to", args[0])
	}
	return running[len(running)-1].Process.Signal(which)
}

// checkJSON holds one value of the last stdout, which must be one JSON document,
// against the argument. A path is keys and indexes with dots between; "len" of
// a list is how many there are.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE, or json PATH >NUMBER (of stdout)")
	}
	got, err := jsonAt(ts.ReadFile("stdout"), args[0])
	ts.Check(err)
	if least, ok := strings.CutPrefix(args[1], ">"); ok {
		want, err := strconv.Atoi(least)
		ts.Check(err)
		n, err := strconv.Atoi(got)
		ts.Check(err)
		if n > want {
			return
		}
	}
	if got != args[1] {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}

// jsonToEnv sets a variable to one value of the last stdout.
func jsonToEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonenv NAME PATH (of stdout)")
	}
	got, err := jsonAt(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	ts.Setenv(args[0], got)
}

func jsonAt(text, path string) (string, error) {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("stdout is no JSON: %w", err)
	}
	if d.More() {
		return "", fmt.Errorf("stdout has more than one JSON document")
	}
	for _, key := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[key]
			if !ok {
				return "", fmt.Errorf("%s: there is no %q among %v", path, key, slices.Sorted(maps.Keys(x)))
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			switch {
			case key == "len":
				v = len(x)
			case err != nil || i >= len(x):
				return "", fmt.Errorf("%s: there is no %s of %d", path, key, len(x))
			default:
				v = x[i]
			}
		default:
			return "", fmt.Errorf("%s: %v has no %q", path, v, key)
		}
	}
	return fmt.Sprint(v), nil
}
