package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"snapferry/nbd"
	"snapferry/test/aws"
	"snapferry/test/vcenter"
)

// Mark is how the names of Snapferry's VM snapshots begin.
const Mark = "snapferry-"

// Options say what a lab is like. Dir must exist; everything on disk is below.
type Options struct {
	Dir     string
	VCenter vcenter.Options // Dir is set by Start
	AWS     aws.Options     // Dir is set by Start
	// KeepFrozen keeps a copy of every disk that Snapferry freezes, to compare
	// recovery points with.
	KeepFrozen bool
}

// Lab is a running simulated world.
type Lab struct {
	VCenter   *vcenter.VCenter
	AWS       *aws.Emulator
	Appliance *vcenter.VM
	dir       string

	mu  sync.Mutex
	vms map[string]*vcenter.VM
}

// Start starts a lab; Close ends it.
func Start(o Options) (*Lab, error) {
	l := &Lab{dir: o.Dir, vms: map[string]*vcenter.VM{}}
	var err error
	if o.VCenter.Dir, err = l.folder("vsphere"); err != nil {
		return nil, err
	}
	if o.AWS.Dir, err = l.folder("aws"); err != nil {
		return nil, err
	}
	// A password that ends up in a settings file must not need quoting there.
	o.VCenter.Password = cmp.Or(o.VCenter.Password, "lab-password")
	if l.VCenter, err = vcenter.New(o.VCenter); err != nil {
		return nil, fmt.Errorf("start the simulated vCenter: %w", err)
	}
	if l.AWS, err = aws.New(o.AWS); err != nil {
		l.Close()
		return nil, fmt.Errorf("start the simulated AWS: %w", err)
	}
	if l.Appliance, err = l.VCenter.AddAppliance("snapferry-appliance"); err != nil {
		l.Close()
		return nil, fmt.Errorf("make the appliance VM: %w", err)
	}
	if o.KeepFrozen {
		kept, err := l.folder("frozen")
		if err != nil {
			l.Close()
			return nil, err
		}
		l.VCenter.KeepFrozen(kept, Mark)
	}
	if err := l.writeSettings(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the lab. What is on disk stays.
func (l *Lab) Close() {
	if l.AWS != nil {
		_ = l.AWS.Close()
	}
	_ = l.VCenter.Close()
}

func (l *Lab) folder(name string) (string, error) {
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make lab folder: %w", err)
	}
	return dir, nil
}

// AddVM makes a VM and remembers it by name for NBD exports.
func (l *Lab) AddVM(spec vcenter.VMSpec) (*vcenter.VM, error) {
	vm, err := l.VCenter.AddVM(spec)
	if err != nil {
		return nil, fmt.Errorf("make VM %s: %w", spec.Name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vms[spec.Name] = vm
	return vm, nil
}

// Settings is the path of a settings file for Snapferry: the vCenter, the
// appliance, the state. Credentials of AWS are in Env.
func (l *Lab) Settings() string { return filepath.Join(l.dir, "snapferry.yaml") }

// writeSettings writes the file that Settings names, readable by its owner
// alone since a password is in it.
func (l *Lab) writeSettings() error {
	ca := filepath.Join(l.dir, "vcenter-ca.pem")
	if err := os.WriteFile(ca, l.VCenter.CACert(), 0o600); err != nil {
		return fmt.Errorf("write the vCenter's CA: %w", err)
	}
	u := *l.VCenter.URL()
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	text, err := yaml.Marshal(map[string]any{
		"vcenter":   map[string]any{"url": u.String(), "user": user, "password": password, "caCerts": ca},
		"appliance": map[string]any{"id": "lab-appliance", "vm": l.Appliance.Moref(), "sysfsDir": l.VCenter.SysfsDir(), "devDir": l.VCenter.DevDir()},
		"stateDir":  filepath.Join(l.dir, "state"),
	})
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	if err := os.WriteFile(l.Settings(), text, 0o600); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

// Env is the environment in which the AWS side is found, and nothing of a
// machine's own AWS configuration is.
func (l *Lab) Env() []string {
	env := append(l.AWS.Env(),
		"AWS_CONFIG_FILE="+filepath.Join(l.dir, "none"),
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(l.dir, "none"),
	)
	if ca := l.AWS.CACert(); len(ca) > 0 {
		path := filepath.Join(l.dir, "aws-ca.pem")
		if os.WriteFile(path, ca, 0o600) == nil {
			env = append(env, "AWS_CA_BUNDLE="+path)
		}
	}
	return env
}

// ServeNBD serves the live disks read-write as exports "VM/N", N from 0, on a
// Unix socket until ctx ends: something real can then write to them.
func (l *Lab) ServeNBD(ctx context.Context, socket string) error {
	listener, err := nbd.Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("serve live disks: %w", err)
	}
	return nbd.Serve(ctx, listener, l.export)
}

func (l *Lab) export(name string) (nbd.Backend, error) {
	vm, index, _ := strings.Cut(name, "/")
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int
	if _, err := fmt.Sscan(index, &n); err != nil || l.vms[vm] == nil || n < 0 || n >= len(l.vms[vm].Disks()) {
		return nil, fmt.Errorf("export %q: %w (exports are VM/N)", name, os.ErrNotExist)
	}
	return liveDisk{l.vms[vm].Disks()[n]}, nil
}
