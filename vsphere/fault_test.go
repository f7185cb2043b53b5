package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

func soapFault(message string, f any) error {
	x := &soap.Fault{Code: "ServerFaultCode", String: message}
	x.Detail.Fault = f
	return soap.WrapSoapFault(x)
}

func taskFault(message string, f types.BaseMethodFault) error {
	return task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: f, LocalizedMessage: message}}
}

func TestExplain(t *testing.T) {
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-7"}
	for name, x := range map[string]struct {
		err   error
		kind  transfer.Kind
		words []string
	}{
		"privilege": {soapFault("Permission denied.", types.NoPermission{Object: &vm, PrivilegeId: "A.B"}), transfer.Permanent, []string{"A.B", "vm-7", "Permission denied."}},
		"privileges": {taskFault("", &types.NoPermission{MissingPrivileges: []types.NoPermissionEntityPrivileges{{Entity: vm, PrivilegeIds: []string{"A.B", "C.D"}}}}),
			transfer.Permanent, []string{"A.B, C.D", "vm-7"}},
		"disabled": {soapFault("", types.MethodDisabled{Source: "com.backup.tool"}), transfer.Retry, []string{"com.backup.tool"}},
		"busy":     {taskFault("Another task.", &types.TaskInProgress{Task: types.ManagedObjectReference{Type: "Task", Value: "task-3"}}), transfer.Retry, []string{"task-3"}},
		"gone":     {soapFault("", types.ManagedObjectNotFound{Obj: vm}), transfer.Permanent, []string{"vm-7", "does not exist"}},
		"full":     {taskFault("No space.", &types.NoDiskSpace{Datastore: "vmfs1"}), transfer.Permanent, []string{"vmfs1", "No space."}},
		"locked":   {taskFault("Failed to lock the file", &types.FileLocked{FileFault: types.FileFault{File: "[ds] a.vmdk"}}), transfer.Retry, []string{"[ds] a.vmdk"}},
		"other":    {soapFault("It hurts.", types.InvalidName{Name: "x"}), transfer.Permanent, []string{"InvalidName", "It hurts."}},
		"bare":     {soapFault("No detail.", nil), transfer.Permanent, []string{"No detail."}},
		"network":  {&url.Error{Op: "Post", URL: "https://user:geheim@vc/sdk", Err: io.ErrUnexpectedEOF}, transfer.Retry, []string{"cannot be reached"}},
		"silence":  {fmt.Errorf("%w (2m)", errNoAnswer), transfer.Retry, []string{"no answer"}},
		"canceled": {&url.Error{Op: "Post", URL: "u", Err: context.Canceled}, transfer.Canceled, nil},
		"known":    {transfer.Fail(transfer.BaselineLost, "query", errors.New("x"), "hint"), transfer.BaselineLost, []string{"query: x"}},
	} {
		err := Explain("do it", x.err)
		if transfer.KindOf(err) != x.kind || !strings.HasPrefix(err.Error(), "do it: ") || strings.Contains(err.Error(), "geheim") || !errors.Is(err, errors.Unwrap(err)) {
			t.Errorf("%s: %v: %v", name, transfer.KindOf(err), err)
		}
		for _, w := range x.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v lacks %q", name, err, w)
			}
		}
	}
	if Explain("do it", nil) != nil {
		t.Error("nothing was explained")
	}
	if err := Explain("do it", soapFault("", types.ManagedObjectNotFound{Obj: vm})); !isGone(err, "VirtualMachine") || isGone(err, "Task") || isNetwork(err) {
		t.Errorf("the fault is not found below its explanation: %v", err)
	}
}

func TestThumbprintForms(t *testing.T) {
	sha1 := strings.Repeat("0a", 20)
	for _, s := range []string{sha1, strings.ToUpper(sha1), colons(sha1), " " + strings.ReplaceAll(colons(sha1), ":", " ")} {
		if got, err := thumbprint(s); err != nil || got != sha1 {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0a", sha1 + "0", sha1 + "00", strings.Repeat("zz", 20)} {
		if _, err := thumbprint(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	for host, want := range map[string]string{"VC": "vc:443", "vc:8443": "vc:8443", "[::1]": "[::1]:443"} {
		if got := withPort(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}

func TestPlanTracking(t *testing.T) {
	for _, x := range []struct {
		cbt       bool
		snapshots int
		enable    bool
		why       bool
	}{{true, 0, false, false}, {true, 3, false, false}, {false, 0, true, false}, {false, 1, false, true}} {
		if p := planTracking(x.cbt, x.snapshots); p.enable != x.enable || (p.why != "") != x.why {
			t.Errorf("CBT %v, %d snapshots: %+v", x.cbt, x.snapshots, p)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"app01", "app10", 2}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := distance(x.a, x.b); got != x.want {
			t.Errorf("%q, %q: %d", x.a, x.b, got)
		}
	}
}
