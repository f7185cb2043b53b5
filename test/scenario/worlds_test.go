package scenario_test

import (
	"os"
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

// long runs the whole matrix; otherwise each story has a sample of it, since
// the race detector pays for every byte.
var long = os.Getenv("SNAPFERRY_LONG") != ""

// worlds are those that every story runs in.
var worlds = map[string]func(*testing.T) *scenario.World{
	"memory": scenario.Memory,
	"lab":    scenario.Lab,
}

// everywhere tells a story in every world.
func everywhere(t *testing.T, story func(*testing.T, *scenario.World)) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
