package service

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// ExportCSV writes a table of every VM, its wave, the policy that a person
// chose for it, whether it is paused, and every launch setting that any VM has.
// ImportCSV reads it.
func (s *Service) ExportCSV(ctx context.Context, w io.Writer) error {
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return err
	}
	slices.SortFunc(vms, func(a, b schedule.VM) int {
		if c := natural(strings.ToLower(a.Path), strings.ToLower(b.Path)); c != 0 {
			return c
		}
		return compareIDs(a.ID, b.ID)
	})
	keys := map[string]bool{}
	lines := make([]line, len(vms))
	book := newBook(vms)
	for i := range vms {
		vm := &vms[i]
		for k := range vm.Launch {
			keys[k] = true
		}
		lines[i] = line{vm: book.shortest(vm), name: vm.Name, wave: &vm.Wave, policy: &vm.Chosen, paused: &vm.Paused, launch: vm.Launch}
	}
	return writeTable(w, slices.Sorted(maps.Keys(keys)), lines)
}

// shortest is what a VM is found by: its path where no other has that, and
// where cells keep it as it is.
func (b book) shortest(vm *schedule.VM) string {
	if found, err := b.find(vm.Path); err == nil && found == vm && isText(vm.Path, "") && strings.TrimSpace(vm.Path) == vm.Path {
		return vm.Path
	}
	return vm.ID.String()
}

// change is what a line of the table asks for.
type change struct {
	line
	of *schedule.VM
}

// ImportCSV does what a table asks for, VM by VM in its order. It looks at the
// whole table before it changes anything: a line that makes no sense, or a VM
// that is there twice, refuses all of it. Should the database fail midway the
// error says so; to import the same table again does the rest.
func (s *Service) ImportCSV(ctx context.Context, by schedule.Actor, r io.Reader) ([]schedule.Done, error) {
	lines, err := readTable(r)
	if err != nil {
		return nil, err
	}
	changes, err := s.plan(ctx, lines)
	if err != nil {
		return nil, err
	}
	defer s.kick()
	waves, err := s.importWaves(ctx, by, changes)
	if err != nil {
		return nil, fmt.Errorf("the table was taken over in part only, import it again: %w", err)
	}
	done := make([]schedule.Done, 0, len(changes))
	for _, c := range changes {
		d, err := s.apply(ctx, by, c, waves[c.of.ID])
		if err != nil {
			return done, fmt.Errorf("the table was taken over before line %d only, import it again: %w", c.number, err)
		}
		done = append(done, d)
	}
	return done, nil
}

// plan finds the VMs of the lines and checks everything that can be wrong.
func (s *Service) plan(ctx context.Context, lines []line) ([]change, error) {
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return nil, err
	}
	rows, err := s.store.PolicyRows(ctx)
	if err != nil {
		return nil, err
	}
	var wrong faults
	book := newBook(vms)
	first := map[transfer.VMID]int{}
	chosen := map[transfer.VMID]string{}
	changes := make([]change, 0, len(lines))
	for _, l := range lines {
		vm, err := book.find(l.vm)
		if err != nil {
			wrong.add(l.number, columnVM, "%v", err)
			continue
		}
		if at := first[vm.ID]; at != 0 {
			wrong.add(l.number, columnVM, "%s is in line %d already", vm.Name, at)
			continue
		}
		first[vm.ID] = l.number
		if l.name != "" && !sameName(l.name, vm.Name) {
			wrong.add(l.number, columnName, "the VM %s is called %q, not %q: were the columns sorted apart?", l.vm, vm.Name, l.name)
		}
		if l.policy != nil {
			chosen[vm.ID] = *l.policy
			if *l.policy != vm.Chosen && *l.policy != "" && !slices.ContainsFunc(rows, func(p schedule.PolicyRow) bool { return p.Name == *l.policy }) {
				wrong.add(l.number, columnPolicy, "there is no policy %q", *l.policy)
			}
		}
		if settings := merged(vm.Launch, l.launch); !maps.Equal(settings, vm.Launch) { // what is wrong since long keeps no table out
			if err := s.checkSettings(settings); err != nil {
				wrong.add(l.number, "", "%v", err)
			}
		}
		changes = append(changes, change{l, vm})
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	ps := bare(rows)
	return changes, s.fitsQuota(ctx, ps, ps, chosen)
}

// sameName compares a cell with a name as cells can hold it.
func sameName(cell, name string) bool {
	plain := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r", "")) }
	return plain(cell) == plain(name)
}

// merged are settings with those of a line over them.
func merged(have schedule.Launch, over map[string]string) schedule.Launch {
	out := schedule.Launch{}
	maps.Copy(out, have)
	maps.Copy(out, over)
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// importWaves makes the waves what the table says, each in one go, and says
// which VMs moved.
func (s *Service) importWaves(ctx context.Context, by schedule.Actor, changes []change) (moved map[transfer.VMID]string, err error) {
	moved = map[transfer.VMID]string{}
	touched := map[string]bool{}
	for _, c := range changes {
		if c.wave != nil && *c.wave != c.of.Wave {
			moved[c.of.ID] = *c.wave
			touched[c.of.Wave], touched[*c.wave] = true, true
		}
	}
	delete(touched, "")
	if len(touched) == 0 {
		return moved, nil
	}
	waves, err := s.store.Waves(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]schedule.Wave{}
	for _, w := range waves {
		known[w.Name] = w
	}
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		w := known[name]
		w.Name = name
		w.VMs = slices.DeleteFunc(slices.Clone(w.VMs), func(id transfer.VMID) bool { _, leaves := moved[id]; return leaves })
		for _, c := range changes {
			if to, moves := moved[c.of.ID]; moves && to == name {
				w.VMs = append(w.VMs, c.of.ID)
			}
		}
		if err := s.saveWave(ctx, by, w); err != nil {
			return nil, err
		}
	}
	return moved, nil
}

// apply does what a line asks for besides its wave.
func (s *Service) apply(ctx context.Context, by schedule.Actor, c change, wave string) (schedule.Done, error) {
	d := schedule.Done{VM: c.of.ID, Name: c.of.Name}
	var did []string
	if c.wave != nil && *c.wave != c.of.Wave {
		did = append(did, "wave "+wave)
		if wave == "" {
			did[0] = "no wave"
		}
	}
	var step schedule.Done
	if c.policy != nil && *c.policy != c.of.Chosen {
		if err := s.choose(ctx, by, c.of, *c.policy, &step); err != nil {
			return d, err
		}
		did = append(did, step.Result)
	}
	if l := merged(c.of.Launch, c.launch); !maps.Equal(l, c.of.Launch) {
		if err := s.setLaunch(ctx, by, c.of, l); err != nil {
			return d, err
		}
		did = append(did, "launch settings")
	}
	if c.paused != nil && *c.paused != c.of.Paused {
		var err error
		if *c.paused {
			err = s.pause(ctx, by, c.of, "paused by "+who(by), &step)
		} else {
			err = s.resume(ctx, by, c.of, &step)
		}
		if err != nil {
			return d, err
		}
		did = append(did, step.Result)
	}
	d.Result = "unchanged"
	if len(did) > 0 {
		d.Result = strings.Join(did, "; ")
	}
	return d, nil
}
