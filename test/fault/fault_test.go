package fault_test

import (
	"slices"
	"testing"

	"snapferry/test/fault"
)

func TestRuleSkipsFiresAndStops(t *testing.T) {
	s := fault.New(1)
	s.Add(fault.Rule{Op: "Put", Kind: fault.Cut, Skip: 2, Times: 2})
	var fired []bool
	for range 6 {
		_, ok := s.Next("Put", "snap-1")
		fired = append(fired, ok)
	}
	if want := []bool{false, false, true, true, false, false}; !slices.Equal(fired, want) {
		t.Errorf("fired %v, want %v", fired, want)
	}
	if n := s.Fired()["Put/cut"]; n != 2 {
		t.Errorf("counted %d firings, want 2", n)
	}
}

func TestSubjectAndOperationNarrowARule(t *testing.T) {
	s := fault.New(1)
	s.Add(fault.Rule{Name: "only b", Op: "*", Subject: "b", Kind: fault.Stall})
	if _, ok := s.Next("Put", "a"); ok {
		t.Error("fired for another subject")
	}
	if got := s.Unfired(); !slices.Equal(got, []string{"only b"}) {
		t.Errorf("unfired %v", got)
	}
	if r, ok := s.Next("Get", "b"); !ok || r.Kind != fault.Stall {
		t.Errorf("got %v, %v", r, ok)
	}
	if got := s.Unfired(); len(got) != 0 {
		t.Errorf("unfired %v after firing", got)
	}
}

func TestNilSetNeverFires(t *testing.T) {
	var s *fault.Set
	if _, ok := s.Next("Put", ""); ok {
		t.Error("a nil set fired")
	}
}
