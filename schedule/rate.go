package schedule

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Rate is bytes a second, 0 without a limit. People write it as ParseRate reads
// it, in policies and in the configuration file; programs read it as a number
// in a string.
type Rate int64

var (
	_ encoding.TextUnmarshaler = (*Rate)(nil)
	_ encoding.TextMarshaler   = Rate(0)

	rateForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)(?:/s|ps)?$`)
	errRate  = errors.New(`write it as 200MB/s, 190MiB/s, 800Mbit/s, or a number of bytes a second`)
)

// units are the bytes of one; case tells MB from Mb, as people write it.
var units = map[string]float64{
	"": 1, "B": 1,
	"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	"kbit": 1e3 / 8, "Kbit": 1e3 / 8, "Mbit": 1e6 / 8, "Gbit": 1e9 / 8,
	"kb": 1e3 / 8, "Kb": 1e3 / 8, "Mb": 1e6 / 8, "Gb": 1e9 / 8,
	"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9,
}

// ParseRate reads "200MB/s", "190MiB/s", "800Mbit/s" or plain bytes a second.
// Nothing a second is refused: it would stand still. "0" and "none" mean no
// limit.
func ParseRate(s string) (Rate, error) {
	text := strings.TrimSpace(s)
	if text == "0" || text == "none" {
		return 0, nil
	}
	m := rateForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("rate %q: %w", s, errRate)
	}
	unit, ok := units[strings.TrimSuffix(m[2], "ps")]
	if !ok {
		return 0, fmt.Errorf("rate %q: unknown unit %q; %w", s, m[2], errRate)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("rate %q: %w", s, errRate)
	}
	bytes := n * unit
	switch {
	case bytes < 1:
		return 0, fmt.Errorf("rate %q is less than a byte a second", s)
	case bytes > math.MaxInt64/2:
		return 0, fmt.Errorf("rate %q is more than there is", s)
	}
	return Rate(bytes), nil
}

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

// MarshalText writes bytes a second, which ParseRate reads.
func (r Rate) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(r), 10), nil }
