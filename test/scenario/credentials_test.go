package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// session is one set of temporary credentials.
type session struct{ key, secret, token string }

func newSession(n int) session {
	return session{fmt.Sprintf("ASIALABSESSION%06d", n), fmt.Sprintf("secret-of-session-%d", n), fmt.Sprintf("token-of-session-%d", n)}
}

// sharedFile writes them into a shared credentials file, whole or not at all.
func (s session) sharedFile(path string) error {
	text := fmt.Sprintf("[lab]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n", s.key, s.secret, s.token)
	return replaceFile(path, text)
}

// process writes what a credential_process prints.
func (s session) process(path string, end time.Time) error {
	return replaceFile(path, fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q, "SessionToken": %q, "Expiration": %q}`,
		s.key, s.secret, s.token, end.UTC().Format(time.RFC3339)))
}

func replaceFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// TestCredentialsAreRenewed within one cycle: the session that it began with
// ends while blocks are put, and another one is where the first was found. The
// cycle goes on. The environment is the process's: these do not run side by side
// with others.
func TestCredentialsAreRenewed(t *testing.T) {
	for source, sample := range map[string]transfer.Step{"credential_process": transfer.StepSeal, "shared file": reading} {
		for _, step := range cycleSteps(sample) {
			t.Run(source+"/"+string(step), func(t *testing.T) {
				dir := t.TempDir()
				file, profile, credentials := filepath.Join(dir, "now"), filepath.Join(dir, "config"), filepath.Join(dir, "credentials")
				put := func(s session) error { return s.process(file, time.Now().Add(time.Hour)) }
				text := "[profile lab]\ncredential_process = cat " + file + "\n"
				if source == "shared file" {
					put = func(s session) error { return s.sharedFile(credentials) }
					text = "[profile lab]\n"
				}
				must(t, replaceFile(profile, text))
				must(t, put(newSession(1)))
				t.Setenv("AWS_CONFIG_FILE", profile)
				t.Setenv("AWS_SHARED_CREDENTIALS_FILE", credentials)
				r := newRig(t, vcenter.VMSpec{CBT: true}, func(o *scenario.LabOptions) {
					o.Profile = "lab"
					first := newSession(1)
					o.AWS.AccessKeyID, o.AWS.SecretAccessKey, o.AWS.SessionToken = first.key, first.secret, first.token
				})
				r.Sync(transfer.Options{})
				r.change()
				res := r.when(step, transfer.Options{}, func() {
					next := newSession(2)
					must(t, put(next))
					r.w.Lab.AWS.ReplaceCredentials(next.key, next.secret, next.token)
				})
				r.row("credentials end and are replaced ("+source+")", step, r.outcome(res))
				if res.err != nil {
					t.Errorf("the cycle did not go on: %v", res.err)
				}
				r.recover(transfer.Options{})
			})
		}
	}
}
