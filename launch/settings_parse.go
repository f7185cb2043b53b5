package launch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// testPrefix is before the keys that hold for tests only.
const testPrefix = "test."

// tagKey is before the names of the user's own tags.
const tagKey = "tag."

// ParseSettings reads the settings of one purpose from flat keys, see Keys. Keys
// without "test." hold for the cutover; a test inherits them, but for those of
// its place in the network. All keys are checked, those of the other purpose
// too. The error names every key that is wrong, and for an unknown one the
// nearest.
func ParseSettings(flat map[string]string, purpose Purpose) (Settings, error) {
	if purpose != ForTest && purpose != ForCutover {
		return Settings{}, fmt.Errorf("read launch settings: %q is neither %s nor %s", purpose, ForTest, ForCutover)
	}
	p := parser{known: allSettings(), cutover: Defaults(ForCutover), test: Defaults(ForTest)}
	keys := slices.Sorted(maps.Keys(flat))
	for _, k := range keys {
		if !strings.HasPrefix(k, testPrefix) {
			p.take(k, k, flat[k], false)
		}
	}
	p.test.Borrowed = withoutAddresses(p.cutover.NICs)
	for _, k := range keys { // after the others, since they win
		if short, ok := strings.CutPrefix(k, testPrefix); ok {
			p.take(k, short, flat[k], true)
		}
	}
	if err := errors.Join(p.wrong...); err != nil {
		return Settings{}, fmt.Errorf("read launch settings: %w", err)
	}
	if purpose == ForTest {
		return p.test.clone(), nil
	}
	return p.cutover.clone(), nil
}

type parser struct {
	known         []setting
	cutover, test Settings
	wrong         []error
}

func (p *parser) take(whole, short, value string, onlyTest bool) {
	fail := func(err error) { p.wrong = append(p.wrong, fmt.Errorf("%s: %w", whole, err)) }
	if strings.TrimSpace(value) != value || value == "" {
		fail(fmt.Errorf("%q is empty, or begins or ends with a space", value))
		return
	}
	set, n, err := p.find(short)
	if err != nil {
		fail(err)
		return
	}
	if !onlyTest {
		err = set.set(&p.cutover, n, value)
	}
	if err == nil && (onlyTest || !set.Network) {
		err = set.set(&p.test, n, value)
	}
	if err != nil {
		fail(err)
	}
}

// find is the setting of a key, and the number in it.
func (p *parser) find(key string) (setting, int, error) {
	if name, ok := strings.CutPrefix(key, tagKey); ok {
		return setting{set: func(s *Settings, _ int, v string) error {
			s.Tags[name] = v
			return checkTag(name, v)
		}}, 0, nil
	}
	for _, s := range p.known {
		if s.set == nil {
			continue
		}
		if s.Name == key {
			return s, 0, nil
		}
		if n, ok := match(s.Name, key); ok {
			return s, n, inRange(s.Name, n)
		}
	}
	return setting{}, 0, fmt.Errorf("there is no such key; the nearest is %s", p.nearest(key))
}

// match compares a key with a name that has one # in the place of a number.
func match(name, key string) (int, bool) {
	head, tail, ok := strings.Cut(name, "#")
	if !ok || !strings.HasPrefix(key, head) || !strings.HasSuffix(key, tail) || len(key) <= len(head)+len(tail) {
		return 0, false
	}
	digits := key[len(head) : len(key)-len(tail)]
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, false
	}
	return n, true
}

func inRange(name string, n int) error {
	most := map[string]int{"nic": maxNIC, "disk": maxDisk, "check": maxCheck}
	if prefix, _, _ := strings.Cut(name, "#"); n > most[prefix] {
		return fmt.Errorf("%d is more than %d", n, most[prefix])
	}
	return nil
}

// nearest is the known key that takes the fewest changes to become.
func (p *parser) nearest(key string) string {
	pattern := digitsToMark(key)
	best, least := "", -1
	for _, s := range p.known {
		if d := distance(strings.ToLower(pattern), strings.ToLower(s.Name)); least < 0 || d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// digitsToMark puts # in the place of the first run of digits.
func digitsToMark(key string) string {
	start := strings.IndexAny(key, "0123456789")
	if start < 0 {
		return key
	}
	rest := strings.TrimLeft(key[start:], "0123456789")
	return key[:start] + "#" + rest
}

// maxCompared keeps a key of nonsense from costing anything.
const maxCompared = 64

// distance counts insertions, deletions and replacements between two keys.
func distance(a, b string) int {
	a, b = a[:min(len(a), maxCompared)], b[:min(len(b), maxCompared)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
