package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

// labPolicies make something happen every few minutes.
const labPolicies = `
server: {listen: "127.0.0.1:8980"}
log: {level: warn}
policies:
  - {name: databases, every: 2m, priority: 1, match: [{name: "db*"}]}
  - {name: production, every: 5m, match: [{folder: /DC0/vm/prod}]}
  - {name: rest, adaptive: {floor: 5m, ceiling: 1h}, match: [{name: "*"}]}
`

// serveConsole runs a lab whose guests write, and the service in front of it,
// until ctx ends.
func serveConsole(ctx context.Context, o options) error {
	l, err := lab.Start(lab.Options{Dir: o.dir})
	if err != nil {
		return err
	}
	defer l.Close()
	var vms []*vcenter.VM
	for _, spec := range append(zoo(), fleet(o.vms)...) {
		vm, err := l.AddVM(spec)
		if err != nil {
			return err
		}
		vms = append(vms, vm)
	}
	settings, token, err := consoleSettings(ctx, l, o)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return writeNowAndThen(ctx, vms) })
	daemon := exec.CommandContext(ctx, o.snapferry, "run", "--config", settings)
	daemon.Env = append(os.Environ(), l.Env()...)
	daemon.Stdout, daemon.Stderr = os.Stdout, os.Stderr
	daemon.Cancel = func() error { return daemon.Process.Signal(syscall.SIGTERM) }
	daemon.WaitDelay = time.Minute
	g.Go(func() error {
		err := daemon.Run()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("snapferry run ended: %w", errors.Join(err, errors.New("see above")))
	})
	fmt.Printf("The console is at http://127.0.0.1:8980/ ; log in with the token in %s:\n\n    %s\n\nOn the command line: %s status --config %s\nCtrl-C ends it.\n", token.file, token.text, o.snapferry, settings)
	return g.Wait()
}

// fleet is n small VMs in folders, on a few hosts.
func fleet(n int) []vcenter.VMSpec {
	kinds := []string{"app", "db", "web", "mail", "build"}
	folders := []string{"prod", "prod/web", "test"}
	var specs []vcenter.VMSpec
	for i := range n {
		specs = append(specs, vcenter.VMSpec{
			Name: fmt.Sprintf("%s-%02d", kinds[i%len(kinds)], i/len(kinds)+2), Folder: folders[i%len(folders)],
			CBT: true, Disks: []vcenter.DiskSpec{{Size: 256 << 20}},
		})
	}
	return specs
}

// labToken is the console's.
type labToken struct{ file, text string }

// consoleSettings adds the service to the lab's settings, with a token that
// snapferry itself makes.
func consoleSettings(ctx context.Context, l *lab.Lab, o options) (path string, t labToken, err error) {
	base, err := os.ReadFile(l.Settings())
	if err != nil {
		return "", t, err
	}
	t.file = filepath.Join(o.dir, "console.token")
	out, err := exec.CommandContext(ctx, o.snapferry, "token", "lab", "--role", "operator", "--out", t.file).Output()
	if err != nil {
		return "", t, fmt.Errorf("make a token: %w", err)
	}
	secret, err := os.ReadFile(t.file)
	if err != nil {
		return "", t, err
	}
	t.text = strings.TrimSpace(string(secret))
	_, digest, ok := strings.Cut(string(out), "sha256: ")
	if !ok {
		return "", t, fmt.Errorf("snapferry token printed no digest: %s", out)
	}
	server := fmt.Sprintf(`{listen: "127.0.0.1:8980", tokens: [{name: lab, role: operator, sha256: %s}]}`, strings.TrimSpace(digest))
	text := string(base) + strings.Replace(labPolicies, `{listen: "127.0.0.1:8980"}`, server, 1)
	launch, err := launchSettings(l)
	if err != nil {
		return "", t, err
	}
	text += launch
	path = filepath.Join(o.dir, "service.yaml")
	return path, t, os.WriteFile(path, []byte(text), 0o600)
}

// launchSettings make networks for cutovers and tests. The guests of this lab
// hold no system that could be made ready for EC2.
func launchSettings(l *lab.Lab) (string, error) {
	var subnets [2]string
	for i := range subnets {
		vpc, err := l.AWS.AddVPC(fmt.Sprintf("10.%d.0.0/16", i+1))
		if err == nil {
			subnets[i], err = l.AWS.AddSubnet(vpc, fmt.Sprintf("10.%d.1.0/24", i+1), "us-east-1a")
		}
		if err != nil {
			return "", fmt.Errorf("make a subnet: %w", err)
		}
	}
	return fmt.Sprintf("launch: {subnet: %s, test.subnet: %s, convert: \"no\"}\n", subnets[0], subnets[1]), nil
}

// writeNowAndThen writes a little to a random VM every second, as guests do.
func writeNowAndThen(ctx context.Context, vms []*vcenter.VM) error {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	data := make([]byte, 64<<10)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		disks := vms[rand.IntN(len(vms))].Disks()
		disk := disks[rand.IntN(len(disks))]
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		at := rand.Int64N(disk.Size()/int64(len(data))) * int64(len(data))
		if _, err := disk.WriteAt(data, at); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write to a guest's disk: %w", err)
		}
	}
}
