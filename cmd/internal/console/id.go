package console

import (
	"net/http"
	"strings"

	"snapferry/transfer"
)

// ID is how a VM is written in paths and parameters: "vCenter's instance
// UUID:moref", such as "5f1d…:vm-1042". Neither part has a colon.
func ID(vm transfer.VMID) string { return vm.VCenter + ":" + vm.Moref }

// ParseID reads what ID writes.
func ParseID(text string) (transfer.VMID, error) {
	vcenter, moref, ok := strings.Cut(text, ":")
	if !ok || vcenter == "" || moref == "" || strings.ContainsAny(moref, ":/") || len(text) > 200 {
		return transfer.VMID{}, badRequest("this is not the ID of a VM", `Write the vCenter's instance UUID, a colon and the moref, such as 5f1d8a12-…:vm-1042; the list of VMs has both.`)
	}
	return transfer.VMID{VCenter: vcenter, Moref: moref}, nil
}

func pathVM(r *http.Request) (transfer.VMID, error) { return ParseID(r.PathValue("id")) }
