package service

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// maxListed names in an error.
const maxListed = 5

// Resolve finds VMs by "vcenter/moref" or "vcenter:moref", inventory path,
// name (without regard to case), moref or instance UUID; a VM that is named
// twice is there once. A name that several VMs have is an error that lists
// them, one that none has an error too.
func (s *Service) Resolve(ctx context.Context, names []string) ([]transfer.VMID, error) {
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return nil, err
	}
	book := newBook(vms)
	seen := make(map[transfer.VMID]bool, len(names))
	found := make([]transfer.VMID, 0, len(names))
	for _, name := range names {
		vm, err := book.find(name)
		if err != nil {
			return nil, err
		}
		if !seen[vm.ID] {
			seen[vm.ID] = true
			found = append(found, vm.ID)
		}
	}
	return found, nil
}

// book finds VMs by what they are called.
type book struct {
	exact map[string][]*schedule.VM // IDs and paths: before all else
	loose map[string][]*schedule.VM // names, morefs, UUIDs, in lower case
}

func newBook(vms []schedule.VM) book {
	b := book{exact: make(map[string][]*schedule.VM, 3*len(vms)), loose: make(map[string][]*schedule.VM, 3*len(vms))}
	for i := range vms {
		vm := &vms[i]
		for _, key := range []string{vm.ID.String(), vm.ID.VCenter + ":" + vm.ID.Moref, vm.Path} {
			b.exact[key] = append(b.exact[key], vm)
		}
		for _, key := range []string{vm.Name, vm.ID.Moref, vm.InstanceUUID} {
			key = strings.ToLower(key)
			if !slices.Contains(b.loose[key], vm) {
				b.loose[key] = append(b.loose[key], vm)
			}
		}
	}
	return b
}

func (b book) find(name string) (*schedule.VM, error) {
	text := strings.TrimSpace(name)
	if text == "" {
		return nil, invalid("", "the name of a VM is empty")
	}
	found := b.exact[text]
	if len(found) == 0 {
		found = b.loose[strings.ToLower(text)]
	}
	switch len(found) {
	case 0:
		return nil, unknown("Name it by its inventory path, name, moref, instance UUID or vcenter/moref.", "there is no VM %q", text)
	case 1:
		return found[0], nil
	}
	return nil, invalid("Name it by its inventory path or by vcenter/moref.", "several VMs are called %q: %s", text, listVMs(found))
}

// listVMs tells VMs apart for a person.
func listVMs(vms []*schedule.VM) string {
	var texts []string
	for _, vm := range vms[:min(len(vms), maxListed)] {
		texts = append(texts, fmt.Sprintf("%s (%s)", vm.Path, vm.ID))
	}
	if more := len(vms) - maxListed; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}
