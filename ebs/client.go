package ebs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"snapferry/transfer"
)

// clients are the SDK's clients of the three services.
type clients struct {
	ebs    *ebs.Client
	ec2    *ec2.Client
	sts    *sts.Client
	region string
	cache  *aws.CredentialsCache // nil where the SDK made none
	expiry expiry                // of the credentials
}

const (
	// connectIn bounds the making of a connection: half an attempt.
	connectIn = 10 * time.Second
	// renewBefore: credentials that end within five minutes are fetched anew,
	// so that no signature outlives them on its way; half of it is chance, so
	// that appliances with one source do not ask it together.
	renewBefore     = 5 * time.Minute
	renewBeforeFrac = 0.5
)

// newHTTPClient is a BuildableClient, since AWS_CA_BUNDLE works with no other.
// The SDK reads HTTPS_PROXY and NO_PROXY into its transport by itself.
func newHTTPClient(c Config) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectIn }).
		WithTransportOptions(func(tr *http.Transport) {
			// HTTP/2 puts all blocks on one connection: 10-15 % slower, and a
			// 400 ms 99th percentile (measured). The transport has been cloned
			// with HTTP/2 on by now and would still offer it in the handshake,
			// hence the last two.
			var http1 http.Protocols
			http1.SetHTTP1(true)
			tr.Protocols, tr.ForceAttemptHTTP2 = &http1, false
			tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
			// Each worker keeps its connection; the pools of the three
			// services are apart.
			tr.MaxIdleConnsPerHost = max(c.Puts, c.Gets)
			tr.MaxIdleConns = 0
			tr.ResponseHeaderTimeout = c.Timing.Headers
		})
}

// newClients loads the shared configuration and makes the clients.
func newClients(ctx context.Context, c Config) (clients, Config, error) {
	const what = "load the AWS configuration"
	options := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}),
		config.WithAppID("snapferry"),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) {
			o.ExpiryWindow, o.ExpiryWindowJitterFrac = renewBefore, renewBeforeFrac
		}),
	}
	early := c.withDefaults("") // pool and timeouts do not depend on the region
	options = append(options, config.WithHTTPClient(newHTTPClient(early)))
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.CABundle != "" {
		f, err := os.Open(c.CABundle)
		if err != nil {
			return clients{}, c, transfer.Fail(transfer.Permanent, "read the CA bundle", err, "give a PEM file with the authorities to trust")
		}
		defer func() { _ = f.Close() }() // only read
		options = append(options, config.WithCustomCABundle(f))
	}
	shared, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return clients{}, c, transfer.Fail(transfer.Permanent, what, clean(err), configHint(err))
	}
	if shared.Region == "" {
		return clients{}, c, transfer.Fail(transfer.Permanent, what, errors.New("no AWS region is set"),
			"set AWS_REGION, or region in the profile of the shared config")
	}
	c = c.withDefaults(shared.Region)
	if p := rereading(shared, c.Profile, options); p != nil {
		shared.Credentials = p
	}
	cache, _ := shared.Credentials.(*aws.CredentialsCache)
	made := fromConfig(shared, c)
	made.cache = cache
	made.expiry = expiryOf(givenCredentials(shared, c.Profile), os.Getenv(expirationEnv))
	if err := made.checkCredentials(ctx, shared.Credentials); err != nil {
		return clients{}, c, err
	}
	return made, c, nil
}

// fromConfig makes the clients without the SDK's retryer: measured at 64
// workers against a throttling service, its standard mode fails 1 % of the
// calls and its adaptive mode a third of the rate.
func fromConfig(shared aws.Config, c Config) clients {
	endpoint := func(set **string, url string) {
		if url != "" {
			*set = aws.String(url)
		}
	}
	return clients{
		region: shared.Region,
		ebs: ebs.NewFromConfig(shared, func(o *ebs.Options) {
			o.Retryer, o.RetryMaxAttempts = aws.NopRetryer{}, 0
			endpoint(&o.BaseEndpoint, c.EBSEndpoint)
		}),
		ec2: ec2.NewFromConfig(shared, func(o *ec2.Options) {
			o.Retryer, o.RetryMaxAttempts = aws.NopRetryer{}, 0
			endpoint(&o.BaseEndpoint, c.EC2Endpoint)
		}),
		sts: sts.NewFromConfig(shared, func(o *sts.Options) {
			o.Retryer, o.RetryMaxAttempts = aws.NopRetryer{}, 0
			endpoint(&o.BaseEndpoint, c.STSEndpoint)
		}),
	}
}

// checkCredentials fetches credentials once, so that missing ones are told
// before anything is frozen. Whether AWS accepts them the first request shows.
func (c clients) checkCredentials(ctx context.Context, source aws.CredentialsProvider) error {
	const what = "get AWS credentials"
	if source == nil {
		return transfer.Fail(transfer.Permanent, what, errors.New("none are configured"), hintCredentials)
	}
	if _, err := source.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return canceled(ctx, what)
		}
		return transfer.Fail(transfer.Permanent, what, clean(err), hintCredentials)
	}
	return nil
}

func configHint(err error) string {
	var profile config.SharedConfigProfileNotExistError
	if errors.As(err, &profile) {
		return fmt.Sprintf("there is no profile %q in ~/.aws/config or ~/.aws/credentials: check AWS_PROFILE", profile.Profile)
	}
	return "check the shared config (~/.aws/config, AWS_CONFIG_FILE), AWS_PROFILE and AWS_CA_BUNDLE"
}
