package service

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
)

// maxTestFor is what the launch setting "for" takes at most: a test that should
// live longer is no test.
const maxTestFor = 90 * 24 * time.Hour

// part is a part of a wish, and the actions that it concerns.
type part struct {
	name string
	set  bool
	of   []schedule.LaunchAction
}

func parts(w *schedule.LaunchWish) []part {
	const test, cutover, revert, finalize = schedule.LaunchTest, schedule.LaunchCutover, schedule.LaunchRevert, schedule.LaunchFinalize
	of := func(actions ...schedule.LaunchAction) []schedule.LaunchAction { return actions }
	return []part{
		{"settings", len(w.Settings) > 0, of(test, cutover)},
		{"force", w.Force, of(test, finalize)},
		{"point", w.Point != "", of(test)},
		{"for", w.For != 0, of(test)},
		{"prove", w.Prove, of(test)},
		{"forceOff", w.ForceOff, of(cutover)},
		{"skipPreSync", w.SkipPreSync, of(cutover)},
		{"discard", w.Discard, of(revert)},
		{"points", w.Points != "", of(finalize)},
		{"stopTracking", w.StopTracking, of(finalize)},
	}
}

// checkWish refuses what makes no sense by itself, whatever the VM: an unknown
// action, what belongs to another one, settings that nobody can read.
func (s *Service) checkWish(a schedule.LaunchAction, w *schedule.LaunchWish) error {
	if !slices.Contains(schedule.LaunchActions(), a) {
		return invalid("", "a VM can be launched by %s, not by %q", listActions(", "), a)
	}
	for _, p := range parts(w) {
		if p.set && !slices.Contains(p.of, a) {
			return invalid("Leave it out.", "%s does not concern a %s: it goes with %s", p.name, a, join(p.of, " and "))
		}
	}
	switch {
	case w.For < 0 || w.For.Std() > maxTestFor:
		return invalid("", "for is %s: a test ends by itself after at most 90 days", w.For)
	case w.Points != "" && w.Points != schedule.PointsNewest && w.Points != schedule.PointsNone && w.Points != schedule.PointsAll:
		return invalid("", "points is %q: it must be newest, none or all", w.Points)
	}
	for _, key := range slices.Sorted(maps.Keys(w.Settings)) {
		if strings.TrimSpace(w.Settings[key]) == "" {
			return invalid("Leave it out.", "launch setting %s is empty", key)
		}
	}
	return CheckLaunch(w.Settings)
}

// checkSettings looks at all launch settings that a VM has or would have.
func (s *Service) checkSettings(l schedule.Launch) error {
	if err := CheckLaunch(l); err != nil || s.checkLaunch == nil {
		return err
	}
	err := s.checkLaunch(l)
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return invalid("", "%s", strings.TrimPrefix(text, schedule.ErrInvalid.Error()+": "))
}

// isLaunch tells actions of launches from others.
func isLaunch(action string) bool {
	return slices.Contains(schedule.LaunchActions(), schedule.LaunchAction(action))
}

func listActions(sep string) string { return join(schedule.LaunchActions(), sep) }

func join[T ~string](list []T, sep string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = string(v)
	}
	return strings.Join(texts, sep)
}

// several is an error about several VMs, that of each with its hint.
type several struct {
	of    int
	texts []string
	kind  error
}

// add keeps a conflict rather than what makes no sense: that may pass.
func (e *several) add(name string, err error) {
	e.texts = append(e.texts, name+": "+withHint(err))
	if e.kind == nil || errors.Is(err, schedule.ErrConflict) {
		e.kind = schedule.ErrConflict
		if errors.Is(err, schedule.ErrInvalid) {
			e.kind = schedule.ErrInvalid
		}
	}
}

// err is all of them, or nil.
func (e *several) err() error {
	n := len(e.texts)
	if n == 0 {
		return nil
	}
	texts := e.texts[:min(n, maxFaults)]
	if n > maxFaults {
		texts = append(slices.Clone(texts), "and "+number(int64(n-maxFaults))+" more")
	}
	text := number(int64(n)) + " of " + number(int64(e.of)) + " VMs would be refused: " + strings.Join(texts, "; ")
	return &refusal{e.kind, text, "Nothing was begun. Put these in order, or leave them out."}
}
