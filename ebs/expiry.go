package ebs

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// expirationEnv is where `aws configure export-credentials`, aws-vault and
// others say when the session token beside it ends. The SDK does not read it.
const expirationEnv = "AWS_CREDENTIAL_EXPIRATION"

// CredentialsExpire says when the credentials end for good. ok is false for
// those that never do, and for those that their provider renews by itself:
// roles, instance metadata, processes, single sign-on (whose own login ends
// some day, of which the SDK says nothing). It is true for a session token that
// somebody put into the environment or the shared config, alone or as what a
// role is assumed with; at is zero where nothing says when that ends. It asks
// nobody: what was given is what the process began with.
func (s *Store) CredentialsExpire(context.Context) (at time.Time, ok bool) {
	return s.api.expiry.at, s.api.expiry.temporary
}

// expiry is the end of credentials that nothing renews.
type expiry struct {
	temporary bool
	at        time.Time // zero: not known
}

// expiryOf judges what credentials start from, and the environment's word for
// when its own end.
func expiryOf(given aws.Credentials, env string) expiry {
	e := expiry{temporary: given.SessionToken != ""}
	if e.temporary && given.Source == config.CredentialsSourceName {
		e.at, _ = time.Parse(time.RFC3339, env) // zero where it is no time
	}
	return e
}

// givenCredentials are the keys that the configuration holds itself and that all
// others are derived from, in the order in which the SDK looks for them; zero
// where a provider finds its own.
func givenCredentials(shared aws.Config, profile string) aws.Credentials {
	var env config.EnvConfig
	var file config.SharedConfig
	for _, s := range shared.ConfigSources {
		switch s := s.(type) {
		case config.EnvConfig:
			env = s
		case config.SharedConfig:
			file = s
		}
	}
	// A profile that the program names goes before keys in the environment; one
	// that AWS_PROFILE names does not.
	if profile == "" && env.Credentials.HasKeys() {
		return env.Credentials
	}
	at := &file
	for at.Source != nil {
		at = at.Source
	}
	switch {
	case at.Credentials.HasKeys():
		return at.Credentials
	case at.CredentialSource == "Environment":
		return env.Credentials
	}
	return aws.Credentials{}
}
