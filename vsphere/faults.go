package vsphere

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// explainFault says of a fault what can be done about it. It is pure.
func explainFault(f types.BaseMethodFault) (kind transfer.Kind, why, hint string) {
	switch f := f.(type) {
	case *types.NoPermission:
		return noPermission(f)
	case *types.InvalidLogin:
		return transfer.Permanent, "vCenter does not accept the user name or the password",
			"Check GOVC_USERNAME (user@domain) and GOVC_PASSWORD; look whether the account is locked or its password expired."
	case *types.NotAuthenticated:
		return transfer.Retry, "the session has ended and a new one ended at once", "Look in vCenter whether sessions are being terminated."
	case *types.MethodDisabled:
		return methodDisabled(f)
	case *types.TaskInProgress:
		return transfer.Retry, "another task is running on it" + where(f.Task), "Wait for the task to end, then try again."
	case *types.ManagedObjectNotFound:
		return transfer.Permanent, fmt.Sprintf("%s %s does not exist (any more)", f.Obj.Type, f.Obj.Value), ""
	}
	if kind, why, hint, ok := explainStorage(f); ok {
		return kind, why, hint
	}
	return explainState(f)
}

func noPermission(f *types.NoPermission) (transfer.Kind, string, string) {
	privilege, object := f.PrivilegeId, ""
	if f.Object != nil {
		object = where(*f.Object)
	}
	for _, m := range f.MissingPrivileges { // since 7.0.3; the fields above may then be empty
		for _, p := range m.PrivilegeIds {
			if !strings.Contains(privilege, p) {
				privilege = strings.TrimPrefix(privilege+", "+p, ", ")
			}
		}
		if object == "" {
			object = where(m.Entity)
		}
	}
	if privilege == "" {
		privilege = "that vCenter does not name"
	}
	return transfer.Permanent, fmt.Sprintf("the vCenter user lacks the privilege %s%s", privilege, object),
		fmt.Sprintf("Grant %s%s to the user's role in vCenter, propagating to children.", privilege, object)
}

func methodDisabled(f *types.MethodDisabled) (transfer.Kind, string, string) {
	source := f.Source
	if source == "" {
		source = "somebody"
	}
	return transfer.Retry, fmt.Sprintf("the operation is disabled on it by %s", source),
		fmt.Sprintf("A backup or migration tool (%s) holds it. Wait for its job to end; if it crashed, its documents say how to enable the methods again.", source)
}

func explainStorage(f types.BaseMethodFault) (kind transfer.Kind, why, hint string, ok bool) {
	switch f := f.(type) {
	case *types.NoDiskSpace:
		return transfer.Permanent, "the datastore " + f.Datastore + " is full", "Free space on it or extend it.", true
	case *types.FileLocked:
		return transfer.Retry, "the file " + f.File + " is locked", hintLocked, true
	case *types.CannotAccessFile:
		return transfer.Retry, "the file " + f.File + " cannot be accessed", hintLocked, true
	case *types.FileNotFound:
		return transfer.Retry, "the file " + f.File + " does not exist", "It was moved or deleted since; try again.", true
	case *types.InvalidDatastore, *types.InvalidDatastorePath, *types.CannotAccessVmDisk, *types.DatastoreNotWritableOnHost:
		return transfer.Permanent, "the datastore cannot be used from the host", "Check that the datastore is mounted on the host and not in maintenance.", true
	case *types.TooManySnapshotLevels:
		return transfer.Permanent, "the VM has too many levels of snapshots", "Delete old snapshots of the VM.", true
	case *types.SnapshotIncompatibleDeviceInVm:
		return transfer.Permanent, "a device of the VM does not allow snapshots", "Remove the device, or make its disk independent and leave it out.", true
	case *types.MemorySnapshotOnIndependentDisk, *types.SnapshotFault:
		return transfer.Permanent, "vSphere refuses the snapshot", "Look at the VM's events in vCenter.", true
	case *types.FileFault:
		return transfer.Retry, "vSphere has trouble with the file " + f.File, "Look at the VM's events in vCenter and at the datastore.", true
	}
	return 0, "", "", false
}

const hintLocked = "A host or another VM holds it: another backup's proxy, or the live disk instead of the frozen one. Look in vCenter at whose disk it is."

func explainState(f types.BaseMethodFault) (transfer.Kind, string, string) {
	switch f := f.(type) {
	case *types.InvalidState, *types.InvalidPowerState, *types.SnapshotLocked, *types.SnapshotNoChange:
		return transfer.Retry, "its state does not allow it now", "Look at the VM in vCenter; try again when it is at rest."
	case *types.HostNotConnected, *types.HostNotReachable, *types.HostCommunication, *types.InvalidHostState, *types.Timedout,
		*types.HostConnectFault, *types.NoHost:
		return transfer.Retry, "vCenter cannot reach the ESXi host", "Check the host in vCenter."
	case *types.ConcurrentAccess:
		return transfer.Retry, "somebody changed it at the same time", "Try again."
	case *types.RequestCanceled:
		return transfer.Retry, "somebody cancelled the task", "Try again."
	case *types.ApplicationQuiesceFault, *types.FilesystemQuiesceFault, *types.ToolsUnavailable:
		return transfer.Retry, "the guest could not be quiesced", hintQuiesce
	case *types.InvalidDeviceSpec, *types.InvalidDeviceBacking, *types.InvalidController:
		return transfer.Permanent, "vSphere refuses the device", ""
	case *types.InvalidArgument:
		return transfer.Permanent, "vSphere refuses the argument " + f.InvalidProperty, ""
	case types.BaseInsufficientResourcesFault:
		return transfer.Retry, "the host or cluster has not the resources for it", "Free CPU and memory there; with vSphere HA its admission control counts too."
	case *types.NoCompatibleHost:
		return transfer.Retry, "no host of the cluster can run it", "See the VM's compatibility in vCenter: hosts in maintenance, networks and datastores that they lack."
	case *types.RestrictedVersion, *types.LicenseRestricted, *types.NotEnoughLicenses:
		return transfer.Permanent, "the vSphere licence does not allow it", "The free ESXi licence has no API for backups."
	case *types.NotSupported:
		return transfer.Permanent, "vSphere does not support it here", ""
	}
	return transfer.Permanent, "vCenter refuses", ""
}

const hintQuiesce = "Look at the VMware Tools and VSS writers in the guest, or set --quiesce try or off."

func where(r types.ManagedObjectReference) string {
	if r.Value == "" {
		return ""
	}
	return fmt.Sprintf(" on %s %s", r.Type, r.Value)
}
