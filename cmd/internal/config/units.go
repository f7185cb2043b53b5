package config

import (
	"fmt"
	"strings"

	"snapferry/schedule"
)

// Rate is bytes a second, written as 200MB/s or 800Mbit/s.
type Rate = schedule.Rate

// ParseRate reads a Rate.
func ParseRate(s string) (Rate, error) { return schedule.ParseRate(s) }

// choose sets v to the one of the choices that text names.
func choose[T ~string](v *T, text []byte, choices ...T) error {
	names := make([]string, len(choices))
	for i, c := range choices {
		if T(text) == c {
			*v = c
			return nil
		}
		names[i] = string(c)
	}
	return fmt.Errorf("%q is none of %s", text, strings.Join(names, ", "))
}
