package vsphere_test

import (
	"crypto/tls"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

func (e *env) ids(vms ...*vcenter.VM) (ids []transfer.VMID) {
	for _, vm := range vms {
		ids = append(ids, e.id(vm))
	}
	return ids
}

func (e *env) try(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// rest are the REST calls among the vCenter's.
func rest(calls map[string]int) (n int, text string) {
	maps.DeleteFunc(calls, func(op string, _ int) bool { return !strings.HasPrefix(op, "REST ") })
	return sum(calls)
}

// tagged is a vCenter with a VM of two tags, one of one, and one of none.
func tagged(t *testing.T) (e *env, a, b, c *vcenter.VM) {
	e = start(t)
	a = e.addVM(vcenter.VMSpec{Name: "a", PoweredOff: true})
	b = e.addVM(vcenter.VMSpec{Name: "b", PoweredOff: true})
	c = e.addVM(vcenter.VMSpec{Name: "c", PoweredOff: true})
	e.try(a.SetTags("tier:gold", "owner:web: team"))
	e.try(b.SetTags("tier:gold"))
	return e, a, b, c
}

func TestTags(t *testing.T) {
	e, a, b, c := tagged(t)
	e.v.ResetCalls()
	if _, err := e.c.VMs(e.ctx); err != nil {
		t.Fatal(err)
	}
	if n, text := rest(e.v.Calls()); n != 0 {
		t.Errorf("a listing made REST calls:%s", text)
	}
	calls := e.c.Calls()
	got, err := e.c.Tags(e.ctx, e.ids(a, b, c))
	if err != nil || len(got) != 2 || !slices.Equal(got[e.id(a)], []string{"owner:web: team", "tier:gold"}) || !slices.Equal(got[e.id(b)], []string{"tier:gold"}) {
		t.Errorf("%v, %v", got, err)
	}
	// The log-in, the batch, two tags, two categories.
	if n, text := rest(e.v.Calls()); n != 6 || e.c.Calls()-calls != 6 {
		t.Errorf("%d calls, %d counted:%s", n, e.c.Calls()-calls, text)
	}
	e.v.ResetCalls()
	e.try(b.SetTags())
	if got, err = e.c.Tags(e.ctx, e.ids(a, b)); err != nil || len(got) != 1 || e.c.TagsMissing() != "" {
		t.Errorf("%v, %v, %s", got, err, e.c.TagsMissing())
	}
	if n, text := rest(e.v.Calls()); n != 1 {
		t.Errorf("the names were known:%s", text)
	}
	if _, err := e.c.Tags(e.ctx, []transfer.VMID{{VCenter: "another", Moref: a.Moref()}}); err == nil {
		t.Error("tags of another vCenter's VM")
	}
}

// TestTagsThatAreNotToBeHad: no privilege, no service: no tags, no error, and a
// reason; afterwards all is as before.
func TestTagsThatAreNotToBeHad(t *testing.T) {
	const list, login = "REST list-attached-tags-on-objects", "REST session"
	e, a, b, c := tagged(t)
	for name, x := range map[string]struct {
		rule fault.Rule
		want string // in the reason
		tags int    // VMs that have theirs all the same
	}{
		"no service":           {fault.Rule{Op: login, Kind: fault.Error, Detail: "404"}, "404", 0},
		"not for this user":    {fault.Rule{Op: login, Kind: fault.Error, Detail: "401"}, "401", 0},
		"log-in forbidden":     {fault.Rule{Op: login, Kind: fault.Error, Detail: "403"}, "403", 0},
		"sessions never last":  {fault.Rule{Op: list, Kind: fault.DeadSession, Times: 2}, "401", 0},
		"no privilege":         {fault.Rule{Op: list, Kind: fault.Error, Detail: "403", Times: -1}, "3 VMs", 0},
		"one VM may not":       {fault.Rule{Op: list, Kind: fault.Error, Detail: "403", Times: 2}, "1 VMs", 1},
		"one was deleted":      {fault.Rule{Op: list, Kind: fault.Error, Detail: "404", Times: 1}, "", 2},
		"invalid for vCenter":  {fault.Rule{Op: list, Kind: fault.Error, Detail: "400", Times: 1}, "", 2},
		"a tag may not":        {fault.Rule{Op: "REST tag", Kind: fault.Error, Detail: "403"}, "1 tags", -1},
		"a category may not":   {fault.Rule{Op: "REST category", Kind: fault.Error, Detail: "403"}, "1 tags", -1},
		"the session is ended": {fault.Rule{Op: list, Kind: fault.DeadSession}, "", 2},
	} {
		e.faults.Add(x.rule)
		client, err := vsphere.Dial(e.ctx, e.config())
		e.try(err)
		got, err := client.Tags(e.ctx, e.ids(a, b, c))
		if err != nil || (x.tags >= 0 && len(got) != x.tags) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		why := client.TagsMissing()
		if (x.want == "") != (why == "") || !strings.Contains(why, x.want) {
			t.Errorf("%s: missing because %q, want %q", name, why, x.want)
		}
		if bad := e.faults.Unfired(); len(bad) > 0 {
			t.Errorf("%s: %v never fired", name, bad)
		}
		password, _ := e.v.URL().User.Password()
		if strings.Contains(why, password) {
			t.Errorf("%s: the reason has the password in it", name)
		}
		e.faults.Clear()
		if x.tags >= 0 { // otherwise names are asked for again in a quarter of an hour
			if got, err := client.Tags(e.ctx, e.ids(a, b, c)); err != nil || len(got) != 2 || client.TagsMissing() != "" {
				t.Errorf("%s, afterwards: %v, %v, %s", name, got, err, client.TagsMissing())
			}
		}
		e.try(client.Close(e.ctx))
	}
}

// TestTagsOfAVCenterThatIsAway: of an outage nothing follows about tags.
func TestTagsOfAVCenterThatIsAway(t *testing.T) {
	e, a, b, c := tagged(t)
	for name, rule := range map[string]fault.Rule{
		"cut":       {Op: "REST list-attached-tags-on-objects", Kind: fault.Cut, Times: -1},
		"starting":  {Op: "REST session", Kind: fault.Throttle, Times: -1},
		"no answer": {Op: "REST list-attached-tags-on-objects", Kind: fault.Stall},
	} {
		e.faults.Add(rule)
		cfg := e.config()
		cfg.Timing.Call = 2 * time.Second
		client, err := vsphere.Dial(e.ctx, cfg)
		e.try(err)
		got, err := client.Tags(e.ctx, e.ids(a, b, c))
		if transfer.KindOf(err) != transfer.Retry || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		e.faults.Clear()
		if got, err := client.Tags(e.ctx, e.ids(a, b, c)); err != nil || len(got) != 2 {
			t.Errorf("%s, afterwards: %v, %v", name, got, err)
		}
		e.try(client.Close(e.ctx))
	}
}

func TestPoolsAndAttributes(t *testing.T) {
	e := start(t)
	a := e.addVM(vcenter.VMSpec{Name: "a", PoweredOff: true, Disks: []vcenter.DiskSpec{{Size: grain}}})
	b := e.addVM(vcenter.VMSpec{Name: "b", PoweredOff: true})
	e.try(a.SetPool("prod/web"))
	e.try(a.SetAttribute("Backup", "nightly"))
	e.try(a.SetAttribute("Owner", "web team"))
	e.try(a.SetAttribute("Owner", "db team"))
	e.try(b.SetAttribute("Backup", "never"))
	e.try(b.SetAttribute("Backup", ""))
	const root = "/DC0/host/DC0_C0/Resources"
	check := func(vm transfer.VM) {
		t.Helper()
		want, pool := map[string]string{"Backup": "nightly", "Owner": "db team"}, root+"/prod/web"
		if vm.Name == "b" {
			want, pool = nil, root
		}
		if !maps.Equal(vm.Attributes, want) || vm.Pool != pool || vm.Path != "/DC0/vm/"+vm.Name || len(vm.Obstacles) > 0 || vm.Host == "" {
			t.Errorf("%+v", vm)
		}
	}
	e.v.ResetCalls()
	listed, err := e.c.VMs(e.ctx)
	if err != nil || len(listed) != 2 {
		t.Fatalf("%+v, %v", listed, err)
	}
	if n, text := sum(e.v.Calls()); n != 3 {
		t.Errorf("%d calls:%s", n, text)
	}
	for _, vm := range listed {
		check(vm)
	}
	e.v.ResetCalls()
	for _, vm := range []*vcenter.VM{a, b} {
		got, err := e.c.Inspect(e.ctx, e.id(vm))
		if err != nil {
			t.Fatal(err)
		}
		check(got)
	}
	if n, text := sum(e.v.Calls()); n != 2 {
		t.Errorf("two inspections took %d calls:%s", n, text)
	}
}

// TestCertificate: as the handshake showed it.
func TestCertificate(t *testing.T) {
	e := start(t)
	shown, err := tls.Dial("tcp", e.v.URL().Host, &tls.Config{InsecureSkipVerify: true})
	e.try(err)
	want := shown.ConnectionState().PeerCertificates[0].NotAfter
	e.try(shown.Close())
	for name, change := range map[string]func(*vsphere.Config){
		"by its authority": func(*vsphere.Config) {},
		"pinned":           func(c *vsphere.Config) { c.CACertFiles, c.Thumbprint = "", e.v.Thumbprint() },
		"anyone's":         func(c *vsphere.Config) { c.CACertFiles, c.Insecure = "", true },
	} {
		cfg := e.config()
		change(&cfg)
		c, err := vsphere.Dial(e.ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := c.Certificate(); !ok || !got.Equal(want) {
			t.Errorf("%s: %v, %v; want %v", name, got, ok, want)
		}
		e.try(c.Close(e.ctx))
	}
}

// TestFleet lists many VMs with pools, attributes and tags: the calls do not
// grow with them. With SNAPFERRY_LONG it is 2,000 VMs on 100 hosts.
func TestFleet(t *testing.T) {
	n, hosts, batches := 100, 10, 1
	if os.Getenv("SNAPFERRY_LONG") != "" {
		n, hosts, batches = 2000, 100, 2
	}
	e := start(t, func(o *vcenter.Options) { o.Hosts = hosts; o.Datastores = []string{"ds1", "ds2", "ds3"} })
	began := time.Now()
	vms, err := e.v.AddFleet(vcenter.FleetSpec{VMs: n, Folders: 10, Pools: 5, Spec: func(i int) vcenter.VMSpec {
		return vcenter.VMSpec{Name: fmt.Sprintf("vm%04d", i), Datastore: fmt.Sprintf("ds%d", 1+i%3)}
	}})
	e.try(err)
	t.Logf("%d VMs made in %v", len(vms), time.Since(began))
	for _, vm := range vms[:20] {
		e.try(vm.SetTags("tier:gold"))
		e.try(vm.SetAttribute("Owner", vm.Name()))
	}
	e.v.ResetCalls()
	began = time.Now()
	got, err := e.c.VMs(e.ctx)
	if err != nil || len(got) != n {
		t.Fatalf("%d, %v", len(got), err)
	}
	calls, text := sum(e.v.Calls())
	t.Logf("listed in %v with %d calls:%s", time.Since(began), calls, text)
	if calls != 3 {
		t.Errorf("%d calls:%s", calls, text)
	}
	on, pools, owned := map[string]int{}, map[string]int{}, 0
	for _, vm := range got {
		on[vm.Host]++
		pools[vm.Pool]++
		if vm.Attributes["Owner"] == vm.Name {
			owned++
		}
	}
	if len(on) != hosts || len(pools) != 5 || pools["/DC0/host/DC0_C0/Resources/pool-3"] != n/5 || owned != 20 {
		t.Errorf("%d hosts, pools %v, %d attributes", len(on), pools, owned)
	}
	began = time.Now()
	tags, err := e.c.Tags(e.ctx, e.ids(vms...))
	calls, text = rest(e.v.Calls())
	t.Logf("tags in %v with %d calls:%s", time.Since(began), calls, text)
	if err != nil || len(tags) != 20 || calls != 3+batches { // a log-in, the batches, a tag, a category
		t.Errorf("%d VMs with tags, %d calls, %v", len(tags), calls, err)
	}
}
