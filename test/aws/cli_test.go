package aws_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"snapferry/test/aws"
)

// cli runs the AWS command line, a client that shares no code with ours.
type cli struct {
	*testing.T
	env []string
	url string
}

func newCLI(t *testing.T, e *aws.Emulator) *cli {
	t.Helper()
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("no aws command on PATH: the emulator is not tried with a foreign client")
	}
	if out, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput(); err != nil {
		t.Skipf("the aws command does not run (%v: %s): the emulator is not tried with a foreign client", err, out)
	}
	dir := t.TempDir()
	env := append(os.Environ(), e.Env()...)
	env = append(env, "AWS_CONFIG_FILE="+filepath.Join(dir, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(dir, "credentials"),
		"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "AWS_SESSION_TOKEN=", "NO_PROXY=127.0.0.1")
	if ca := e.CACert(); ca != nil {
		file := filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(file, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		env = append(env, "AWS_CA_BUNDLE="+file)
	}
	return &cli{t, env, e.URL()}
}

func (c *cli) try(args ...string) (map[string]any, error) {
	cmd := exec.CommandContext(c.Context(), "aws", append([]string{"--output", "json", "--endpoint-url", c.url}, args...)...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, errs.String())
	}
	v := map[string]any{}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("output %q: %w", out.String(), err)
		}
	}
	return v, nil
}

func (c *cli) run(args ...string) map[string]any {
	c.Helper()
	v, err := c.try(args...)
	if err != nil {
		c.Fatalf("aws %v: %v", args, err)
	}
	return v
}

func TestForeignClient(t *testing.T) {
	if testing.Short() {
		t.Skip("the aws command takes a second for each call")
	}
	r := newRig(t, aws.Options{TLS: true})
	c := newCLI(t, r.e)
	b := random()
	file := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	id := c.run("ebs", "start-snapshot", "--volume-size", "1", "--tags", "Key=vm,Value=web", "--client-token", "one")["SnapshotId"].(string)
	put := []string{"ebs", "put-snapshot-block", "--snapshot-id", id, "--data-length", "524288", "--block-data", file, "--checksum-algorithm", "SHA256"}
	if v := c.run(append(put, "--block-index", "3", "--checksum", digest(b))...); v["Checksum"] != digest(b) {
		t.Errorf("put answered %v", v)
	}
	if _, err := c.try(append(put, "--block-index", "4", "--checksum", digest(nil))...); err == nil || !bytes.Contains([]byte(err.Error()), []byte("InvalidSignatureException")) {
		t.Errorf("put with a wrong checksum: %v", err)
	}
	v := c.run("ebs", "complete-snapshot", "--snapshot-id", id, "--changed-blocks-count", "1", "--checksum", linear(map[int][]byte{3: b}),
		"--checksum-algorithm", "SHA256", "--checksum-aggregation-method", "LINEAR")
	if v["Status"] != "pending" {
		t.Errorf("complete answered %v", v)
	}
	list := c.run("ebs", "list-snapshot-blocks", "--snapshot-id", id)["Blocks"].([]any)
	if len(list) != 1 {
		t.Fatalf("listed %v", list)
	}
	token := list[0].(map[string]any)["BlockToken"].(string)
	back := file + ".back"
	if v := c.run("ebs", "get-snapshot-block", "--snapshot-id", id, "--block-index", "3", "--block-token", token, back); v["Checksum"] != digest(b) {
		t.Errorf("get answered %v", v)
	}
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, b) {
		t.Errorf("the block reads back wrong, %v", err)
	}
	snaps := c.run("ec2", "describe-snapshots", "--owner-ids", "self", "--filters", "Name=tag:vm,Values=w*", "Name=status,Values=completed")["Snapshots"].([]any)
	if len(snaps) != 1 || snaps[0].(map[string]any)["SnapshotId"] != id {
		t.Errorf("described %v", snaps)
	}
	if none := c.run("ec2", "describe-snapshots", "--filters", "Name=tag:vm,Values=other")["Snapshots"].([]any); len(none) != 0 {
		t.Errorf("described %v", none)
	}
	if v := c.run("sts", "get-caller-identity"); v["Account"] != "123456789012" {
		t.Errorf("identity %v", v)
	}
}
