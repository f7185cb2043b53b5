package ebs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// rereading are keys of a session that somebody put into the shared
// configuration, and puts there anew before they end. The SDK reads the file
// once; this reads it again when AWS calls the keys expired. nil where the keys
// are no such ones.
func rereading(shared aws.Config, profile string, options []func(*config.LoadOptions) error) *aws.CredentialsCache {
	given := givenCredentials(shared, profile)
	if given.SessionToken == "" || given.Source == config.CredentialsSourceName {
		return nil
	}
	// The file with the authorities to trust is closed by now; the HTTP client of
	// the first time has them.
	fresh := append(options[:len(options):len(options)], config.WithCustomCABundle(nil), config.WithHTTPClient(shared.HTTPClient))
	read := aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		again, err := config.LoadDefaultConfig(ctx, fresh...)
		if err != nil {
			return aws.Credentials{}, err
		}
		return again.Credentials.Retrieve(ctx)
	})
	return aws.NewCredentialsCache(read, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow, o.ExpiryWindowJitterFrac = renewBefore, renewBeforeFrac
	})
}
