package scenario_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"snapferry/test/aws"
)

// TestMain gives the process the emulator's credentials, the same for each
// emulator, and nothing of the machine's own AWS configuration; unless the
// real world is asked for.
func TestMain(m *testing.M) {
	if os.Getenv(realTag) == "" {
		if err := useEmulatorCredentials(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := lookups.serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func useEmulatorCredentials() error {
	e, err := aws.New(aws.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "AWS_") {
			os.Unsetenv(k)
		}
	}
	for _, kv := range append(e.Env(), "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent") {
		k, v, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(k, "AWS_ENDPOINT_URL") { // each world has its own
			if err := os.Setenv(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}
