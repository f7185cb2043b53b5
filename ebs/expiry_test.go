package ebs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"snapferry/test/aws"
)

// TestCredentialsExpire: what is renewed by itself is told from what somebody
// pasted in and must paste again.
func TestCredentialsExpire(t *testing.T) {
	e := newEmulator(t, aws.Options{})
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	keys := []string{"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret"}
	token := append([]string{"AWS_SESSION_TOKEN=token"}, keys...)
	const process = `{"Version":1,"AccessKeyId":"AKIDPROCESS","SecretAccessKey":"x","SessionToken":"t","Expiration":"2030-01-02T03:04:05Z"}`
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "AWS_CONFIG_FILE=" + name
	}
	pasted := file("[default]\naws_access_key_id=A\naws_secret_access_key=b\naws_session_token=c\n" +
		"[profile static]\naws_access_key_id=A\naws_secret_access_key=b\n" +
		"[profile process]\ncredential_process=echo '" + process + "'\n")
	for name, x := range map[string]struct {
		env     []string
		profile string
		ok      bool
		at      time.Time
	}{
		"keys of a user":            {env: keys},
		"a token":                   {env: token, ok: true},
		"a token that says its end": {env: append([]string{"AWS_CREDENTIAL_EXPIRATION=2030-01-02T03:04:05Z"}, token...), ok: true, at: end},
		"an end beside other keys":  {env: append([]string{"AWS_CREDENTIAL_EXPIRATION=2030-01-02T03:04:05Z"}, keys...)},
		"no time":                   {env: append([]string{"AWS_CREDENTIAL_EXPIRATION=tomorrow"}, token...), ok: true},
		"a token in the file":       {env: []string{pasted}, ok: true},
		"keys in the file":          {env: []string{pasted}, profile: "static"},
		"a process":                 {env: []string{pasted}, profile: "process"},
		"the profile goes first":    {env: append([]string{pasted}, token...), profile: "process"},
		"the environment, then":     {env: append([]string{pasted, "AWS_PROFILE=process"}, token...), ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			useEnv(t, append([]string{"AWS_REGION=us-east-1"}, x.env...)...)
			s, err := Open(t.Context(), Config{Profile: x.profile, EBSEndpoint: e.URL(), EC2Endpoint: e.URL(), STSEndpoint: e.URL(), Timing: fast})
			if err != nil {
				t.Fatal(err)
			}
			if at, ok := s.CredentialsExpire(t.Context()); ok != x.ok || !at.Equal(x.at) {
				t.Errorf("%v, %v; want %v, %v", at, ok, x.at, x.ok)
			}
		})
	}
}

// TestCredentialsOfARoleEndWithWhatAssumesIt: the role's own are renewed, as
// long as the pasted token lives.
func TestCredentialsOfARoleEndWithWhatAssumesIt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config")
	text := "[profile pasted]\naws_access_key_id=A\naws_secret_access_key=b\naws_session_token=c\n" +
		"[profile user]\naws_access_key_id=A\naws_secret_access_key=b\n" +
		"[profile over-pasted]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=pasted\n" +
		"[profile over-user]\nrole_arn=arn:aws:iam::123456789012:role/r\nsource_profile=user\n" +
		"[profile over-role]\nrole_arn=arn:aws:iam::123456789012:role/s\nsource_profile=over-pasted\n" +
		"[profile over-env]\nrole_arn=arn:aws:iam::123456789012:role/r\ncredential_source=Environment\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	useEnv(t, "AWS_CONFIG_FILE="+name, "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=b", "AWS_SESSION_TOKEN=c")
	for profile, want := range map[string]bool{"over-pasted": true, "over-user": false, "over-role": true, "over-env": true} {
		shared, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithSharedConfigProfile(profile))
		if err != nil {
			t.Fatal(err)
		}
		if got := expiryOf(givenCredentials(shared, profile), ""); got.temporary != want {
			t.Errorf("%s: %+v, want %v", profile, got, want)
		}
	}
}
