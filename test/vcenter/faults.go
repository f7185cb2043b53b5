package vcenter

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// newFault makes the fault that a rule's Detail names: a type of vim25, for
// NoPermission with the privilege behind a colon, for a FileFault and its
// kin with the file ("FileFault:[ds] vm/vm.vmdk"). An unknown name becomes a
// fault that says so: a rule that cannot be played must not pass unseen.
func newFault(detail string, object types.ManagedObjectReference) types.BaseMethodFault {
	name, arg, _ := strings.Cut(detail, ":")
	if name == "NoPermission" {
		return noPermission(object, arg)
	}
	kind, ok := types.TypeFunc()(name)
	if !ok {
		return unplayable("fault type", detail)
	}
	val := reflect.New(kind)
	f, ok := val.Interface().(types.BaseMethodFault)
	if !ok {
		return unplayable("fault type", detail)
	}
	for _, field := range []string{"File", "Reason"} {
		if x := val.Elem().FieldByName(field); x.IsValid() && x.Kind() == reflect.String {
			x.SetString(arg)
		}
	}
	return f
}

func unplayable(what, name string) types.BaseMethodFault {
	return &types.SystemErrorFault{Reason: fmt.Sprintf("the simulated vCenter cannot play the %s %q", what, name)}
}

func noPermission(object types.ManagedObjectReference, privilege string) *types.NoPermission {
	return &types.NoPermission{Object: &object, PrivilegeId: privilege,
		MissingPrivileges: []types.NoPermissionEntityPrivileges{{Entity: object, PrivilegeIds: []string{privilege}}}}
}

func fileFault(file string) types.FileFault { return types.FileFault{File: file} }

// messages are vCenter's words for the faults that people will see.
var messages = map[string]string{
	"NotAuthenticated":                "The session is not authenticated.",
	"NoPermission":                    "Permission to perform this operation was denied.",
	"InvalidLogin":                    "Cannot complete login due to an incorrect user name or password.",
	"TaskInProgress":                  "Another task is already in progress.",
	"FileLocked":                      "Failed to lock the file",
	"FileNotFound":                    "File was not found",
	"FileAlreadyExists":               "The specified file already exists.",
	"FileFault":                       "Error caused by file",
	"CannotAccessFile":                "Unable to access file",
	"InvalidDeviceSpec":               "Invalid configuration for device '0'.",
	"InvalidDeviceBacking":            "Incompatible device backing specified for device '0'.",
	"InvalidArgument":                 "A specified parameter was not correct:",
	"InvalidState":                    "The operation is not allowed in the current state.",
	"ToolsUnavailable":                "Cannot complete operation because VMware Tools is not running in this virtual machine.",
	"InvalidPowerState":               "The attempted operation cannot be performed in the current state (power state).",
	"ApplicationQuiesceFault":         "An error occurred while quiescing the virtual machine. Error: applications could not be quiesced.",
	"FilesystemQuiesceFault":          "An error occurred while quiescing the virtual machine. Error: file systems could not be quiesced.",
	"ManagedObjectNotFound":           "The object has already been deleted or has not been completely created",
	"NonPersistentDisksNotSupported":  "Virtual machine has non-persistent disks, which are not supported for this operation.",
	"SnapshotIncompatibleDeviceInVm":  "Cannot create a snapshot: the virtual machine has an incompatible device.",
	"SnapshotDisabled":                "Snapshots are disabled for this virtual machine.",
	"MultiWriterNotSupported":         "The device is a multi-writer disk, which is not supported for this operation.",
	"SharedBusControllerNotSupported": "The device is on a shared bus controller, which is not supported for this operation.",
	"RequestCanceled":                 "The task was canceled by a user.",
	"InsufficientStorageSpace":        "Insufficient disk space on datastore.",
	"NoDiskSpace":                     "Insufficient disk space on datastore.",
}

func message(f types.BaseMethodFault) string {
	return messageOf(reflect.TypeOf(f).Elem().Name())
}

func messageOf(name string) string {
	if m, ok := messages[strings.TrimSuffix(name, "Fault")]; ok {
		return m
	}
	if m, ok := messages[name]; ok {
		return m
	}
	return name
}
