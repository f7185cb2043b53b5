package vcenter

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
)

// Options are the properties of a simulated vCenter.
type Options struct {
	// Dir holds everything on disk: a directory per datastore, and the
	// appliance guest's view (sysfs, dev). It must exist.
	Dir string
	// Username and Password are the only ones that may log in; the defaults
	// are administrator@vsphere.local and a random password.
	Username, Password string
	// SessionIdle ends sessions that made no call for so long; 0: never.
	// Reading a disk is no call.
	SessionIdle time.Duration
	// MaxAreas is the most areas in one QueryChangedDiskAreas answer; default 2000.
	MaxAreas int
	// Listen is the address of the server; default 127.0.0.1:0.
	Listen string
	// Faults are asked before every authenticated call and every Login.
	Faults *fault.Set
	// Datastores are the names of the datastores; default vmfs1, vmfs2.
	Datastores []string
	// TaskDelay is how long a task runs before it has its effect.
	TaskDelay time.Duration
	// Hosts is the number of ESXi hosts in the cluster; default 2.
	Hosts int
}

func (o *Options) complete() error {
	if o.Dir == "" {
		return errors.New("start vCenter: Options.Dir is empty")
	}
	setDefault(&o.Username, "administrator@vsphere.local")
	if o.Password == "" {
		o.Password = rand.Text()
	}
	setDefault(&o.MaxAreas, 2000) // vSphere's own page, CDI#3534
	setDefault(&o.Listen, "127.0.0.1:0")
	setDefault(&o.Hosts, 2)
	if len(o.Datastores) == 0 {
		o.Datastores = []string{"vmfs1", "vmfs2"}
	}
	return nil
}

// VCenter is one simulated vCenter with its hosts, datastores and VMs. Its
// methods may be called by many goroutines at once.
type VCenter struct {
	opts     Options
	identity *identity
	model    *simulator.Model
	server   *simulator.Server
	sessions *sessions
	closed   chan struct{}
	running  sync.WaitGroup // tasks and watchers

	// ops is held while a task changes the world: tasks of different VMs take
	// turns, as their effects are short. It is taken before any lock of vcsim
	// and before mu and a disk's lock.
	ops sync.Mutex

	// mu guards what follows. It is a leaf: nothing is locked under it.
	mu        sync.Mutex
	stores    map[string]*store
	vms       map[string]*VM // by moref
	snapshots map[string]*snapshot
	leases    map[string]*snapshot // open NFC leases
	networks  map[string]types.ManagedObjectReference
	attached  []*attachment
	appliance *VM
	guests    map[*VM]*guest // of appliances
	hosts     []types.ManagedObjectReference
	pool      types.ManagedObjectReference
	calls     map[string]int
	denied    map[string][]types.ManagedObjectReference // privilege: nil means everywhere
	log       history
	onFreeze  []func(FreezeEvent)
	keep      *keeper
	taskNo    int

	tagger tagger
}

// store is one datastore.
type store struct {
	name string
	dir  string
	ref  types.ManagedObjectReference
}

// modelMu: simulator.Model.Create works on process-wide state.
var modelMu sync.Mutex

// New starts a vCenter. The caller must Close it.
func New(o Options) (*VCenter, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	id, err := newIdentity()
	if err != nil {
		return nil, fmt.Errorf("start vCenter: %w", err)
	}
	v := &VCenter{
		opts: o, identity: id, closed: make(chan struct{}),
		stores: map[string]*store{}, vms: map[string]*VM{}, snapshots: map[string]*snapshot{}, leases: map[string]*snapshot{}, networks: map[string]types.ManagedObjectReference{},
		guests: map[*VM]*guest{}, calls: map[string]int{}, denied: map[string][]types.ManagedObjectReference{},
	}
	v.sessions = newSessions(o.SessionIdle, v.dropSession)
	if err := v.createModel(); err != nil {
		return nil, fmt.Errorf("start vCenter: %w", err)
	}
	if err := v.createStores(); err != nil {
		return nil, errors.Join(fmt.Errorf("start vCenter: %w", err), v.Close())
	}
	v.serve()
	return v, nil
}

func (v *VCenter) createModel() error {
	m := simulator.VPX()
	m.Machine, m.Host, m.Cluster, m.ClusterHost, m.Datastore, m.Portgroup = 0, 0, 1, v.opts.Hosts, 0, 0
	m.ServiceContent.About.InstanceUuid = uuid.NewString()
	modelMu.Lock()
	err := m.Create()
	modelMu.Unlock()
	if err != nil {
		return fmt.Errorf("create the inventory: %w", err)
	}
	v.model = m
	for _, e := range m.Map().All("HostSystem") {
		v.hosts = append(v.hosts, e.Reference())
	}
	slices.SortFunc(v.hosts, func(a, b types.ManagedObjectReference) int {
		return strings.Compare(v.entityName(a), v.entityName(b))
	})
	cluster := m.Map().Any("ClusterComputeResource").(*simulator.ClusterComputeResource)
	v.pool = *cluster.ResourcePool
	return nil
}

func (v *VCenter) createStores() error {
	for _, name := range v.opts.Datastores {
		dir := filepath.Join(v.opts.Dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create datastore %s: %w", name, err)
		}
		s := &store{name: name, dir: dir}
		for _, h := range v.hosts {
			if err := v.mount(h, s); err != nil {
				return err
			}
		}
		v.stores[name] = s
		if err := v.SetFreeSpace(name, 1<<40); err != nil {
			return err
		}
	}
	return nil
}

func (v *VCenter) mount(host types.ManagedObjectReference, s *store) error {
	ctx := v.context()
	h := v.registry().Get(host).(*simulator.HostSystem)
	dss := v.registry().Get(*h.ConfigManager.DatastoreSystem).(*simulator.HostDatastoreSystem)
	body := dss.CreateLocalDatastore(ctx, &types.CreateLocalDatastore{This: dss.Self, Name: s.name, Path: s.dir})
	if f := body.Fault(); f != nil {
		return fmt.Errorf("mount datastore %s: %s", s.name, f.String)
	}
	s.ref = v.registry().FindByName(s.name, dss.Datastore).Reference()
	return nil
}

func (v *VCenter) serve() {
	v.model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{v.identity.leaf}, MinVersion: tls.VersionTLS12}
	v.model.Service.Listen = &url.URL{Host: v.opts.Listen, User: url.UserPassword(v.opts.Username, v.opts.Password)}
	v.model.Service.RegisterEndpoints = true // the REST API
	v.registry().Handler = v.dispatch
	v.wrapAuthorization()
	// A pattern with a method wins over vcsim's own without one.
	v.model.Service.HandleFunc("POST /sdk", v.serveSDK)
	v.model.Service.HandleFunc("POST /sdk/vimService", v.serveSDK)
	for _, method := range []string{"GET", "PUT", "POST"} {
		v.model.Service.HandleFunc(method+" /folder/", v.serveFolder)
	}
	v.model.Service.HandleFunc("GET /nfc/{lease}/{file}", v.serveLease)
	v.server = v.model.Service.NewServer()
	v.server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what tests are after
	v.server.Config.Handler = v.serveREST(v.server.Config.Handler)
}

// Close stops the server, waits for running tasks and closes every file. What
// is on disk stays.
func (v *VCenter) Close() error {
	v.mu.Lock()
	select {
	case <-v.closed:
		v.mu.Unlock()
		return nil
	default:
		close(v.closed)
	}
	v.mu.Unlock()
	for _, vm := range v.VMs() {
		vm.abandonShutdown()
	}
	v.sessions.killAll()
	if v.server != nil {
		v.server.CloseClientConnections()
		v.server.Close()
	}
	v.running.Wait()
	var errs []error
	for _, vm := range v.VMs() {
		v.mu.Lock()
		disks := vm.heldDisks()
		v.mu.Unlock()
		for _, d := range disks {
			errs = append(errs, d.closeFiles())
		}
	}
	v.model.Remove()
	return errors.Join(errs...)
}

// URL is the endpoint with the credentials in it: https://user:pass@host/sdk.
func (v *VCenter) URL() *url.URL {
	u := *v.server.URL
	u.User = url.UserPassword(v.opts.Username, v.opts.Password)
	return &u
}

// VMs returns every VM that AddVM and AddAppliance made and nobody destroyed,
// ordered by moref.
func (v *VCenter) VMs() []*VM {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.SortedFunc(maps.Values(v.vms), func(a, b *VM) int { return strings.Compare(a.ref.Value, b.ref.Value) })
}

// Calls returns how many SOAP calls of each method came in over the wire.
func (v *VCenter) Calls() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.calls)
}

// ResetCalls sets every count of Calls to zero.
func (v *VCenter) ResetCalls() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.calls)
}

// InstanceUUID is About.InstanceUuid of this vCenter.
func (v *VCenter) InstanceUUID() string { return v.model.ServiceContent.About.InstanceUuid }

// Hosts returns the morefs of the hosts, in the order of VMSpec.Host.
func (v *VCenter) Hosts() []types.ManagedObjectReference { return slices.Clone(v.hosts) }

// Datastore returns the moref of a datastore and its directory on this machine.
func (v *VCenter) Datastore(name string) (ref types.ManagedObjectReference, dir string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.stores[name]
	if s == nil {
		return ref, "", fmt.Errorf("find datastore %q: no such datastore", name)
	}
	return s.ref, s.dir, nil
}

// SetFreeSpace sets what a datastore says is free, in bytes; its capacity is
// 2 TiB or that, whichever is more.
func (v *VCenter) SetFreeSpace(name string, free int64) error {
	s := v.stores[name]
	if s == nil {
		return fmt.Errorf("set free space of %q: no such datastore", name)
	}
	ctx := v.context()
	ds := v.registry().Get(s.ref).(*simulator.Datastore)
	ctx.WithLock(ds, func() {
		info := &types.VmfsDatastoreInfo{
			DatastoreInfo: types.DatastoreInfo{Name: name, Url: s.dir, FreeSpace: free, MaxFileSize: 62 << 40},
			Vmfs:          &types.HostVmfsVolume{MajorVersion: 6, Version: "6.82", Uuid: newNamedUUID(s.dir)},
		}
		ctx.Update(ds, []types.PropertyChange{
			{Name: "summary.type", Val: "VMFS"},
			{Name: "summary.capacity", Val: max(2<<40, free)},
			{Name: "summary.freeSpace", Val: free},
			{Name: "info", Val: info},
		})
	})
	return nil
}

// HideDatastore takes a datastore away from one host, as an unpresented LUN is.
func (v *VCenter) HideDatastore(name string, host types.ManagedObjectReference) error {
	ref, _, err := v.Datastore(name)
	if err != nil {
		return err
	}
	ctx := v.context()
	h, ok := v.registry().Get(host).(*simulator.HostSystem)
	if !ok {
		return fmt.Errorf("hide datastore %s: %s is no host", name, host.Value)
	}
	ctx.WithLock(h, func() {
		left := slices.DeleteFunc(slices.Clone(h.Datastore), func(d types.ManagedObjectReference) bool { return d == ref })
		ctx.Update(h, []types.PropertyChange{{Name: "datastore", Val: left}})
	})
	ds := v.registry().Get(ref).(*simulator.Datastore)
	ctx.WithLock(ds, func() {
		left := slices.DeleteFunc(slices.Clone(ds.Host), func(m types.DatastoreHostMount) bool { return m.Key == host })
		ctx.Update(ds, []types.PropertyChange{{Name: "host", Val: left}})
	})
	return nil
}

func (v *VCenter) registry() *simulator.Registry { return v.model.Map() }

// context is a fresh owner of vcsim's object locks: two contexts exclude each
// other, one does not exclude itself.
func (v *VCenter) context() *simulator.Context {
	c := *v.model.Service.Context
	return &c
}

func (v *VCenter) entityName(ref types.ManagedObjectReference) string {
	if h, ok := v.registry().Get(ref).(*simulator.HostSystem); ok {
		return h.Name
	}
	return ref.Value
}

// storePath splits "[vmfs1] vm/vm.vmdk" into its datastore and the rest.
func (v *VCenter) storePath(p string) (*store, string) {
	var d object.DatastorePath
	if !d.FromString(p) {
		return nil, ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stores[d.Datastore], d.Path
}

func newDiskUUID() string {
	id := strings.ToLower(uuid.NewString())
	return "6000C29" + id[7:]
}

func newNamedUUID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String()
}
