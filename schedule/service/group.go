package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"snapferry/schedule"
	"snapferry/transfer"
)

// SavePolicy makes or replaces a policy. One that asks for more snapshots than
// AWS grants, with the VMs that it would get, is refused with the sum.
func (s *Service) SavePolicy(ctx context.Context, by schedule.Actor, p schedule.Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	rows, err := s.store.PolicyRows(ctx)
	if err != nil {
		return err
	}
	old := bare(rows)
	ps := slices.Clone(old)
	if i := slices.IndexFunc(ps, func(x schedule.Policy) bool { return x.Name == p.Name }); i >= 0 {
		ps[i] = p
	} else {
		ps = append(ps, p)
	}
	if err := s.fitsQuota(ctx, old, ps, nil); err != nil {
		return err
	}
	if err := s.store.SavePolicy(ctx, p); err != nil {
		return fmt.Errorf("save policy %s: %w", p.Name, err)
	}
	s.kick()
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventPolicyChanged, Text: "policy " + p.Name + " was saved"})
}

// fitsQuota sums up what policies keep of the VMs that they would be given to;
// chosen are those that a person is about to choose. Where it is too much
// already, what makes it no more is a way back.
func (s *Service) fitsQuota(ctx context.Context, old, ps []schedule.Policy, chosen map[transfer.VMID]string) error {
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return err
	}
	was, before := schedule.Quota(old, vms, 0), kept(old, vms)
	for i := range vms {
		if name, ok := chosen[vms[i].ID]; ok {
			vms[i].Chosen = name
		}
		vms[i].Policy, _ = schedule.Assign(ps, &vms[i])
	}
	if err := schedule.Quota(ps, vms, 0); err != nil && (was == nil || kept(ps, vms) > before) {
		return err
	}
	return nil
}

// kept is how many snapshots policies keep of the VMs that have them.
func kept(ps []schedule.Policy, vms []schedule.VM) (n int) {
	disks := map[string]int{}
	for i := range vms {
		disks[vms[i].Policy] += len(vms[i].Disks)
	}
	for i := range ps {
		of, _ := schedule.QuotaOf(&ps[i], disks[ps[i].Name], math.MaxInt) // that it is too much, Quota says
		n += of
	}
	return n
}

func bare(rows []schedule.PolicyRow) []schedule.Policy {
	ps := make([]schedule.Policy, len(rows))
	for i, r := range rows {
		ps[i] = r.Policy
	}
	return ps
}

// canChoose checks that policies exist and that what they keep fits.
func (s *Service) canChoose(ctx context.Context, chosen map[transfer.VMID]string) error {
	rows, err := s.store.PolicyRows(ctx)
	if err != nil {
		return err
	}
	ps, names := bare(rows), map[string]bool{"": true}
	for _, p := range ps {
		names[p.Name] = true
	}
	for _, name := range slices.Sorted(maps.Values(chosen)) {
		if !names[name] {
			return unknownPolicy(name)
		}
	}
	return s.fitsQuota(ctx, ps, ps, chosen)
}

func unknownPolicy(name string) error {
	return invalid("The list of policies has them all.", "there is no policy %q", name)
}

// DeletePolicy deletes one that the file does not have and that no VM was given
// by hand: such a VM would be left without any.
func (s *Service) DeletePolicy(ctx context.Context, by schedule.Actor, name string) error {
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return err
	}
	var given []string
	for i := range vms {
		if vms[i].Chosen == name {
			given = append(given, vms[i].Name)
		}
	}
	if n := len(given); n > 0 {
		slices.Sort(given)
		return conflict("Give them another one first.", "policy %s was given to %d VMs by hand: %s", name, n, shortList(given))
	}
	if err := s.store.DeletePolicy(ctx, name); errors.Is(err, schedule.ErrNotFound) {
		return unknown("", "there is no policy %q", name)
	} else if err != nil {
		return fmt.Errorf("delete policy %s: %w", name, err)
	}
	s.kick()
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventPolicyChanged, Text: "policy " + name + " was deleted"})
}

func shortList(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

// The rules of waves. A name begins with a letter or a digit: it stands in
// paths and in tables of other programs, which take other beginnings for
// formulas.
const (
	maxWaveNote = 1000
	waveRule    = "it must begin with a letter or digit, go on with those, space, dot, dash and underscore, and have at most 64 characters"
)

var waveName = regexp.MustCompile(`^[\p{L}\p{Nd}]([\p{L}\p{Nd} ._-]{0,62}[\p{L}\p{Nd}._-])?$`)

func checkWaveName(name string) error {
	if !waveName.MatchString(name) {
		return invalid("", "the name of a wave cannot be %q: %s", name, waveRule)
	}
	return nil
}

// wave is one of them.
func (s *Service) wave(ctx context.Context, name string) (schedule.Wave, error) {
	w, err := s.store.Wave(ctx, name)
	if errors.Is(err, schedule.ErrNotFound) {
		return w, unknown("", "there is no wave %q", name)
	}
	return w, err
}

// SaveWave makes or replaces a wave. Its VMs leave the waves that they were in.
func (s *Service) SaveWave(ctx context.Context, by schedule.Actor, w schedule.Wave) error {
	if err := checkWaveName(w.Name); err != nil {
		return err
	}
	if len(w.Note) > maxWaveNote || !isText(w.Note, "\n\t") {
		return invalid("", "the note of a wave is text of at most %d bytes", maxWaveNote)
	}
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return err
	}
	known := make(map[transfer.VMID]bool, len(vms))
	for i := range vms {
		known[vms[i].ID] = true
	}
	members, seen := make([]transfer.VMID, 0, len(w.VMs)), map[transfer.VMID]bool{}
	for _, id := range w.VMs {
		if !known[id] {
			return invalid("", "wave %s: there is no VM %s", w.Name, id)
		}
		if !seen[id] {
			seen[id] = true
			members = append(members, id)
		}
	}
	w.VMs = members
	return s.saveWave(ctx, by, w)
}

func (s *Service) saveWave(ctx context.Context, by schedule.Actor, w schedule.Wave) error {
	defer s.shared.forget()
	if err := s.store.SaveWave(ctx, w); err != nil {
		return fmt.Errorf("save wave %s: %w", w.Name, err)
	}
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventWaveChanged, Text: fmt.Sprintf("wave %s has %d VMs", w.Name, len(w.VMs))})
}

// DeleteWave deletes a wave; its VMs stay as they are.
func (s *Service) DeleteWave(ctx context.Context, by schedule.Actor, name string) error {
	defer s.shared.forget()
	if err := s.store.DeleteWave(ctx, name); errors.Is(err, schedule.ErrNotFound) {
		return unknown("", "there is no wave %q", name)
	} else if err != nil {
		return fmt.Errorf("delete wave %s: %w", name, err)
	}
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventWaveChanged, Text: "wave " + name + " was deleted"})
}

// The rules of launch settings; what they mean is package launch's.
const (
	maxLaunchKeys  = 100
	maxLaunchValue = 16 << 10 // EC2 takes 16 KiB of user data
)

// launchKey is the name of a setting, or of a tag of the user's own with the
// characters that AWS takes; no "=", at which a --set ends its name.
var launchKey = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]{0,63}|(test\.)?tag\.[\p{L}\p{N}_.:/+@-][\p{L}\p{N} _.:/+@-]{0,127})$`)

// CheckLaunch refuses settings that no table can carry.
func CheckLaunch(l schedule.Launch) error {
	if len(l) > maxLaunchKeys {
		return invalid("", "there are %d launch settings, %d is the most", len(l), maxLaunchKeys)
	}
	for _, key := range slices.Sorted(maps.Keys(l)) {
		if err := checkSetting(key, l[key]); err != nil {
			return err
		}
	}
	return nil
}

func checkSetting(key, value string) error {
	switch {
	case !launchKey.MatchString(key):
		return invalid("", "there can be no launch setting %q: letters, digits, dot, dash and underscore, at most 64; behind tag. also spaces and : / + @", key)
	case len(value) > maxLaunchValue:
		return invalid("", "launch setting %s has %d bytes, %d is the most", key, len(value), maxLaunchValue)
	case !isText(value, "\n\t"):
		return invalid("", "launch setting %s is no text: it has control characters or is no UTF-8", key)
	}
	return nil
}

// isText reports that s is UTF-8 without control characters but those in but.
func isText(s, but string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && !strings.ContainsRune(but, c) })
}

// SetLaunch replaces the launch settings of a VM. An empty value is none.
func (s *Service) SetLaunch(ctx context.Context, by schedule.Actor, vm transfer.VMID, l schedule.Launch) error {
	if err := CheckLaunch(l); err != nil {
		return err
	}
	l = maps.Clone(l)
	maps.DeleteFunc(l, func(_, value string) bool { return value == "" })
	if err := s.checkSettings(l); err != nil {
		return err
	}
	v, err := s.load(ctx, vm)
	if err != nil {
		return err
	}
	return s.setLaunch(ctx, by, &v, l)
}

func (s *Service) setLaunch(ctx context.Context, by schedule.Actor, vm *schedule.VM, l schedule.Launch) error {
	if maps.Equal(l, vm.Launch) {
		return nil
	}
	defer s.shared.forget()
	if err := s.store.SetLaunch(ctx, vm.ID, l); err != nil {
		return fmt.Errorf("save the launch settings of %s: %w", vm.Name, err)
	}
	return s.record(ctx, by, schedule.Event{Kind: schedule.EventSettingsChange, VM: vm.ID, VMName: vm.Name, Text: "the launch settings of " + vm.Name + " were saved"})
}
