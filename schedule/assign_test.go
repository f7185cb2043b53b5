package schedule

import (
	"strings"
	"testing"

	"snapferry/transfer"
)

func TestAssign(t *testing.T) {
	vm := VM{VM: transfer.VM{
		Name: "App01", Path: "/DC0/vm/Prod/web/App01", Pool: "/DC0/host/C0/Resources/gold/a",
		Tags: []string{"env:Production", "owner:ops:eu"}, Attributes: map[string]string{"Tier": "1", "note": ""},
	}}
	for _, x := range []struct {
		m    Match
		want bool
	}{
		{Match{}, false},
		{Match{Name: "app*"}, true},
		{Match{Name: "APP0[1-3]"}, true},
		{Match{Name: "pp01"}, false},
		{Match{Name: "["}, false},
		{Match{Folder: "/DC0/vm/prod/web"}, true},
		{Match{Folder: "/DC0/vm/prod/"}, true},
		{Match{Folder: "/*/vm/prod"}, true},
		{Match{Folder: "/DC0/vm/pro"}, false},
		{Match{Folder: "/DC0/vm/prod/web/app01"}, false},
		{Match{Folder: "/"}, true},
		{Match{Pool: "/DC0/host/C0/Resources/gold"}, true},
		{Match{Pool: "/DC0/host/*/Resources/silver"}, false},
		{Match{Tag: "env:production"}, true},
		{Match{Tag: "production"}, true},
		{Match{Tag: "env"}, false},
		{Match{Tag: "ops:eu"}, true},
		{Match{Tag: "eu"}, false},
		{Match{Attribute: "tier"}, true},
		{Match{Attribute: "tier=1"}, true},
		{Match{Attribute: "tier=2"}, false},
		{Match{Attribute: "note"}, false},
		{Match{Attribute: "note="}, true},
		{Match{Name: "app*", Tag: "production"}, true},
		{Match{Name: "app*", Tag: "test"}, false},
	} {
		p := []Policy{{Name: "none"}, {Name: "p", Match: []Match{{Name: "other"}, x.m}}}
		name, why := Assign(p, &vm)
		if (name == "p") != x.want || why == "" {
			t.Errorf("%+v: %q, %q", x.m, name, why)
		}
	}
}

func TestAssignOrder(t *testing.T) {
	ps := []Policy{{Name: "hand"}, {Name: "first", Match: []Match{{Name: "a*", Folder: "/DC0"}}}, {Name: "second", Match: []Match{{Name: "*"}}}}
	for name, x := range map[string]struct {
		vm        VM
		want, why string
	}{
		"first":      {VM{VM: transfer.VM{Name: "a1", Path: "/DC0/vm/a1"}}, "first", "matches name a* and folder /DC0"},
		"second":     {VM{VM: transfer.VM{Name: "b1", Path: "/DC0/vm/b1"}}, "second", "matches name *"},
		"chosen":     {VM{VM: transfer.VM{Name: "a1", Path: "/DC0/vm/a1"}, Chosen: "hand"}, "hand", "chosen for this VM"},
		"chosen, no": {VM{VM: transfer.VM{Name: "a1", Path: "/DC0/vm/a1"}, Chosen: "gone"}, "", "gone was chosen"},
	} {
		if got, why := Assign(ps, &x.vm); got != x.want || !strings.Contains(why, x.why) {
			t.Errorf("%s: %q, %q", name, got, why)
		}
	}
	if got, why := Assign(ps[:2], &VM{VM: transfer.VM{Name: "b", Path: "/DC0/vm/b"}}); got != "" || why != "no policy matches it" {
		t.Errorf("%q, %q", got, why)
	}
	if got, _ := Assign([]Policy{{Name: "p", Match: []Match{{Pool: "*"}}}}, &VM{}); got != "" {
		t.Error("a VM without a pool matched one")
	}
}
