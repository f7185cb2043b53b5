package scenario_test

import (
	"hash/fnv"
	"os"
	"strings"
	"testing"

	"snapferry/test/scenario"
	"snapferry/transfer/manifest"
)

const (
	kib   = int64(1) << 10
	mib   = int64(1) << 20
	gib   = int64(1) << 30
	block = 512 * kib
)

// long runs the whole matrix; otherwise each story has a sample of it.
var long = os.Getenv("SNAPFERRY_LONG") != ""

// brief: half of the sample, see thin.
var brief = underRace && !long

// thin leaves every second story of a table out under the race detector, which
// makes each of them six times as dear. They take the same paths in another
// order; make scenarios has all of them without it.
func thin(t *testing.T) {
	t.Helper()
	if !brief || !strings.Contains(t.Name(), "/") {
		return
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.Name())) // a hash takes everything
	if h.Sum32()>>16&1 == 1 {
		t.Skip("half of the table is told under the race detector; make scenarios has all of it")
	}
}

// worlds are those that every story runs in.
var worlds = map[string]func(*testing.T) *scenario.World{
	"memory": scenario.Memory,
	"lab":    scenario.Lab,
}

// everywhere tells a story in every world; under the race detector not in
// memory, where package transfer's own tests are.
func everywhere(t *testing.T, story func(*testing.T, *scenario.World)) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if brief && name == "memory" {
				t.Skip("make scenarios has it")
			}
			story(t, make(t))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stateOf(t *testing.T) manifest.Dir { return manifest.Dir(t.TempDir()) }
