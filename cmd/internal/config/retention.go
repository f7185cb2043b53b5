package config

import (
	"errors"
	"fmt"
	"time"
)

// Retention says which recovery points of each VM stay: those that any rule
// keeps. Where no number is set the default holds; where one is, the others
// are 0, so that a rule can be left out.
type Retention struct {
	Last    int `yaml:"last"`    // the newest n
	Days    int `yaml:"days"`    // all of the last n days
	Daily   int `yaml:"daily"`   // the newest of each of n days
	Weekly  int `yaml:"weekly"`  // … of n ISO weeks
	Monthly int `yaml:"monthly"` // … of n months
	// TimeZone is where days begin, such as Europe/Berlin; "" is UTC.
	TimeZone string `yaml:"timeZone"`
}

// The default, at most 14 points of a VM; package transfer has its reasons,
// and a test of the program holds the two together.
const (
	defaultLast   = 3
	defaultDaily  = 7
	defaultWeekly = 4
)

// maxRetention is more points or days than anybody keeps; a year in its place
// is a typing error.
const maxRetention = 36_500

// SetRules replaces the rules, all of them.
func (r *Retention) SetRules(rules Retention) {
	rules.TimeZone = r.TimeZone
	*r = rules
}

func (r *Retention) none() bool { return r.Last+r.Days+r.Daily+r.Weekly+r.Monthly == 0 }

func (r *Retention) fill() {
	if *r == (Retention{TimeZone: r.TimeZone}) {
		r.SetRules(Retention{Last: defaultLast, Daily: defaultDaily, Weekly: defaultWeekly})
	}
}

func (r *Retention) check() error {
	for _, q := range []struct {
		name string
		n    int
	}{{"last", r.Last}, {"days", r.Days}, {"daily", r.Daily}, {"weekly", r.Weekly}, {"monthly", r.Monthly}} {
		if q.n < 0 || q.n > maxRetention {
			return fmt.Errorf("retention.%s is %d: it must be from 0 to %d", q.name, q.n, maxRetention)
		}
	}
	if r.none() {
		return errors.New("retention keeps no recovery point at all: give at least one rule a number above 0")
	}
	if _, err := r.Location(); err != nil {
		return fmt.Errorf("retention.timeZone: %w", err)
	}
	return nil
}

// Location is the time zone.
func (r *Retention) Location() (*time.Location, error) {
	if r.TimeZone == "" {
		return time.UTC, nil
	}
	loc, err := time.LoadLocation(r.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone that this machine knows, such as Europe/Berlin", r.TimeZone)
	}
	return loc, nil
}
