package ebs

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"snapferry/transfer"
)

// Config is what can be set. The zero Config follows the SDK's conventions and
// has the service's own limits.
type Config struct {
	// Region and Profile go before AWS_REGION and AWS_PROFILE.
	Region, Profile string
	// Endpoint URLs go before AWS_ENDPOINT_URL_EBS and the like, for a
	// PrivateLink endpoint or an emulator.
	EBSEndpoint, EC2Endpoint, STSEndpoint string
	// CABundle is a PEM file with the authorities to trust instead of the
	// system's; it goes before AWS_CA_BUNDLE.
	CABundle string

	// Puts is how many blocks may be under way to AWS at once in this process.
	// 0 is 64: it fills 1 Gbit/s up to 270 ms of latency (318 MB/s measured
	// at 100 ms) and takes 32 MiB of buffers. 128 doubles both.
	Puts int
	// Gets is how many reads at once the connection pool is made for; the
	// bound itself is the caller's. 0 is 64.
	Gets int
	// BytesPerSecond limits the block data sent and received, together and
	// retries included; 0 is no limit.
	BytesPerSecond int64

	// Request rates. 0 is 95 % of the region's quota, negative is no limit.
	// Set the account's rates lower where others share the account's quota.
	PutsPerSecondPerSnapshot, PutsPerSecondPerAccount float64
	GetsPerSecondPerSnapshot, GetsPerSecondPerAccount float64

	// Trace, when set, is told of every attempt of every request, many at
	// once. Nothing secret is in it.
	Trace func(Exchange)

	Timing Timing
}

// Exchange is one attempt of one request.
type Exchange struct {
	Service string // "ebs", "ec2", "sts"
	Op      string // as the service names it
	What    string // a verb and its object
	Took    time.Duration
	Err     error // redacted as all errors of this package are; nil on success
	// Throttled: the service refused it since there were too many. Again: it
	// repeats one that failed.
	Throttled, Again bool
}

// Timing holds the waits. Each field that is 0 has its default, which fits the
// real service; emulators and tests want shorter ones.
type Timing struct {
	// Headers (12 s), Attempt (20 s) and Operation (120 s): from outside AWS a
	// few requests connect and never answer; these bounds get past them.
	// Waiting for a turn counts toward none of them.
	Headers, Attempt, Operation time.Duration
	// NotYet (3 min) is how long after a start a 404 means "not yet": the
	// service needs up to about two minutes to know a new snapshot.
	NotYet time.Duration
	// RetryFirst (100 ms) and RetryMax (5 s) bound the pause before another
	// attempt: the first clears a blip, the last keeps 64 failing workers at
	// some 25 requests a second.
	RetryFirst, RetryMax time.Duration
	// SlowPut (5 s) is how long one put may take before fewer are sent at
	// once: the service gives up on bodies that arrive slowly.
	SlowPut time.Duration
	// PollFirst (1 s) and PollMax (15 s) bound the pause between looks at
	// sealed snapshots; SealLimit (30 min) ends the wait. EC2 takes ten
	// minutes to report some errors.
	PollFirst, PollMax, SealLimit time.Duration
	// Settings (30 s) is how long the account's encryption default is believed.
	// Disks of one cycle ask within a second; people change it rarely.
	Settings time.Duration
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Headers, 12*time.Second)
	def(&t.Attempt, 20*time.Second)
	def(&t.Operation, 120*time.Second)
	def(&t.NotYet, 3*time.Minute)
	def(&t.RetryFirst, 100*time.Millisecond)
	def(&t.RetryMax, 5*time.Second)
	def(&t.SlowPut, 5*time.Second)
	def(&t.PollFirst, time.Second)
	def(&t.PollMax, 15*time.Second)
	def(&t.SealLimit, 30*time.Minute)
	def(&t.Settings, 30*time.Second)
	return t
}

const defaultInFlight = 64

// Quotas per second, from the AWS facts. Those per snapshot are fixed.
const (
	quotaPerSnapshot     = 1000
	quotaPerAccount      = 1000
	quotaPerLargeAccount = 5000
	quotaStarts          = 10
	quotaCompletes       = 10
	quotaLists           = 50
	// underQuota: at 95 % of a quota with retries of our own nothing was
	// throttled and 99 % of it was used (measured).
	underQuota = 0.95
)

// largeRegions have 5,000 puts and gets a second per account.
var largeRegions = []string{"us-east-1", "us-east-2", "us-west-2", "ap-southeast-1", "eu-west-1"}

// withDefaults fills in what the region decides.
func (c Config) withDefaults(region string) Config {
	count := func(n *int) {
		if *n <= 0 {
			*n = defaultInFlight
		}
	}
	count(&c.Puts)
	count(&c.Gets)
	account := float64(quotaPerAccount)
	if slices.Contains(largeRegions, region) {
		account = quotaPerLargeAccount
	}
	perSecond := func(r *float64, quota float64) {
		if *r == 0 {
			*r = underQuota * quota
		}
	}
	perSecond(&c.PutsPerSecondPerSnapshot, quotaPerSnapshot)
	perSecond(&c.PutsPerSecondPerAccount, account)
	perSecond(&c.GetsPerSecondPerSnapshot, quotaPerSnapshot)
	perSecond(&c.GetsPerSecondPerAccount, account)
	c.Timing = c.Timing.withDefaults()
	return c
}

// check refuses what cannot work before anything is sent.
func (c Config) check() error {
	endpoints := []struct{ name, value string }{
		{"EBS", c.EBSEndpoint}, {"EC2", c.EC2Endpoint}, {"STS", c.STSEndpoint},
	}
	for _, e := range endpoints {
		if e.value == "" {
			continue
		}
		u, err := url.Parse(e.value)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
			return transfer.Fail(transfer.Permanent, "read the "+e.name+" endpoint",
				fmt.Errorf("%q is not a URL such as https://ebs.eu-central-1.amazonaws.com", e.value),
				"give the endpoint with https:// and a host name")
		}
	}
	if c.BytesPerSecond < 0 {
		return transfer.Fail(transfer.Permanent, "read the rate limit",
			fmt.Errorf("%d bytes a second is not a rate", c.BytesPerSecond), "give a positive rate, or 0 for none")
	}
	return nil
}
