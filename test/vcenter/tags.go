package vcenter

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	_ "github.com/vmware/govmomi/vapi/simulator" // the REST API, where tags are
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
)

// SetTags gives the VM these vSphere tags, "category:tag", and no others.
// Categories and tags are made where they do not exist.
func (vm *VM) SetTags(names ...string) error {
	if err := vm.v.setTags(vm.ref, names); err != nil {
		return fmt.Errorf("tag VM %s: %w", vm.Name(), err)
	}
	return nil
}

// insideAgent are the simulator's own calls, which count for nobody and never
// fail by rule.
const insideAgent = "inside"

// tagger is a session of the simulator with itself.
type tagger struct {
	mu sync.Mutex
	m  *tags.Manager
	id map[string]string // of categories "c" and tags "c:t"
}

func (v *VCenter) setTags(on types.ManagedObjectReference, names []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t := &v.tagger
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		u := v.URL()
		sc := soap.NewClient(u, true)
		sc.UserAgent = insideAgent
		c := rest.NewClient(&vim25.Client{Client: sc})
		if err := c.Login(ctx, u.User); err != nil {
			return err
		}
		t.m, t.id = tags.NewManager(c), map[string]string{}
	}
	have, err := t.m.ListAttachedTags(ctx, on)
	if err != nil {
		return err
	}
	for _, id := range have {
		if err := t.m.DetachTag(ctx, id, on); err != nil {
			return err
		}
	}
	for _, name := range names {
		id, err := t.make(ctx, name)
		if err == nil {
			err = t.m.AttachTag(ctx, id, on)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// make finds or makes a tag and its category.
func (t *tagger) make(ctx context.Context, name string) (string, error) {
	category, tag, ok := strings.Cut(name, ":")
	if !ok {
		return "", fmt.Errorf("a tag is category:tag, not %q", name)
	}
	if t.id[category] == "" {
		id, err := t.m.CreateCategory(ctx, &tags.Category{Name: category, Cardinality: "MULTIPLE", AssociableTypes: []string{"VirtualMachine"}})
		if err != nil {
			return "", err
		}
		t.id[category] = id
	}
	if t.id[name] == "" {
		id, err := t.m.CreateTag(ctx, &tags.Tag{Name: tag, CategoryID: t.id[category]})
		if err != nil {
			return "", err
		}
		t.id[name] = id
	}
	return t.id[name], nil
}

// SetAttribute gives the VM a custom attribute; an empty value clears it. The
// attribute is defined where it is not.
func (vm *VM) SetAttribute(name, value string) error {
	ctx := vm.v.context()
	m := vm.v.registry().Get(*vm.v.model.ServiceContent.CustomFieldsManager).(*simulator.CustomFieldsManager)
	key := int32(-1)
	var body soap.HasFault
	ctx.WithLock(m, func() {
		for _, f := range m.Field {
			if f.Name == name {
				key = f.Key
			}
		}
		if key < 0 {
			body = m.AddCustomFieldDef(ctx, &types.AddCustomFieldDef{This: m.Self, Name: name, MoType: "VirtualMachine"})
			if res := body.(*methods.AddCustomFieldDefBody).Res; res != nil {
				key = res.Returnval.Key
			}
		}
		if key >= 0 {
			body = m.SetField(ctx, &types.SetField{This: m.Self, Entity: vm.ref, Key: key, Value: value})
		}
	})
	if f := body.Fault(); f != nil {
		return fmt.Errorf("set attribute %s of VM %s: %s", name, vm.Name(), f.String)
	}
	return nil
}

// SetPool moves the VM into a resource pool, "prod/web" below the cluster's
// root pool, which is made where it does not exist; "" is the root pool.
func (vm *VM) SetPool(path string) error {
	v := vm.v
	v.ops.Lock()
	defer v.ops.Unlock()
	ctx := v.context()
	pool := v.registry().Get(v.pool).(*simulator.ResourcePool)
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		next, err := v.childPool(ctx, pool, name)
		if err != nil {
			return fmt.Errorf("move VM %s to pool %s: %w", vm.Name(), path, err)
		}
		pool = next
	}
	m := vm.sim()
	old := v.registry().Get(*m.ResourcePool).(*simulator.ResourcePool)
	ctx.WithLock(old, func() { v.registry().RemoveReference(ctx, old, &old.Vm, vm.ref) })
	ctx.WithLock(pool, func() { v.registry().AddReference(ctx, pool, &pool.Vm, vm.ref) })
	self := pool.Self
	ctx.WithLock(m, func() { ctx.Update(m, []types.PropertyChange{{Name: "resourcePool", Val: &self}}) })
	return nil
}

func (v *VCenter) childPool(ctx *simulator.Context, parent *simulator.ResourcePool, name string) (*simulator.ResourcePool, error) {
	var body *methods.CreateResourcePoolBody
	var there mo.Entity
	ctx.WithLock(parent, func() {
		if there = v.registry().FindByName(name, parent.ResourcePool.ResourcePool); there == nil {
			body = parent.CreateResourcePool(ctx, &types.CreateResourcePool{This: parent.Self, Name: name, Spec: types.DefaultResourceConfigSpec()}).(*methods.CreateResourcePoolBody)
		}
	})
	switch {
	case there != nil:
		return there.(*simulator.ResourcePool), nil
	case body.Fault_ != nil:
		return nil, fmt.Errorf("create pool %s: %s", name, body.Fault_.String)
	}
	return v.registry().Get(body.Res.Returnval).(*simulator.ResourcePool), nil
}

// serveREST is the wire of the REST API: it counts calls, as "REST " and the
// action or else the last part of the path ("session", "tag", "category"), and
// plays faults under these names: Throttle, Cut, Stall, LostAnswer, and Error with
// an HTTP status as its Detail. DeadSession is 401. A tag's call has its ID as
// subject.
func (v *VCenter) serveREST(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, rest.Path+"/") || r.UserAgent() == insideAgent {
			next.ServeHTTP(w, r)
			return
		}
		op, subject := restCall(r)
		v.mu.Lock()
		v.calls[op]++
		v.mu.Unlock()
		rule, spoils := v.opts.Faults.Next(op, subject)
		if !spoils {
			next.ServeHTTP(w, r)
			return
		}
		switch rule.Kind {
		case fault.Throttle:
			w.WriteHeader(http.StatusServiceUnavailable)
		case fault.DeadSession:
			w.WriteHeader(http.StatusUnauthorized)
		case fault.Error:
			code, err := strconv.Atoi(rule.Detail)
			if err != nil {
				code = http.StatusNotImplemented
			}
			w.WriteHeader(code)
		case fault.Stall:
			v.stallREST(w, r, rule.Delay, next)
		case fault.LostAnswer:
			next.ServeHTTP(nowhere{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		default:
			panic(http.ErrAbortHandler)
		}
	})
}

func (v *VCenter) stallREST(w http.ResponseWriter, r *http.Request, delay time.Duration, next http.Handler) {
	var over <-chan time.Time
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
		next.ServeHTTP(w, r)
		return
	case <-r.Context().Done():
	case <-v.closed:
	}
	panic(http.ErrAbortHandler)
}

// restCall names a call, and the tag that it is about.
func restCall(r *http.Request) (op, subject string) {
	if action := r.URL.Query().Get("~action"); action != "" {
		return "REST " + action, ""
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := parts[len(parts)-1]
	if id, ok := strings.CutPrefix(last, "id:"); ok && len(parts) > 1 {
		return "REST " + parts[len(parts)-2], id
	}
	return "REST " + last, ""
}

// nowhere takes an answer that nobody hears.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header       { return n.h }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
