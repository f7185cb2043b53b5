package aws

import (
	"time"

	"snapferry/test/fault"
)

// Options say how an emulator behaves. The zero Options are a friendly service:
// no limits but the one on pending snapshots, no delays, fixed credentials.
type Options struct {
	// Dir is the directory for block data, in one file that grows as needed;
	// empty keeps it in memory.
	Dir string
	// Region and AccountID default to us-east-1 and 123456789012.
	Region, AccountID string
	// The credentials that are accepted. The key ID and the secret have
	// defaults; with a SessionToken every request must carry it.
	AccessKeyID, SecretAccessKey, SessionToken string
	// TLS serves HTTPS with a certificate of an authority of its own, see
	// [Emulator.CACert].
	TLS bool
	// Listen is the address to listen on, 127.0.0.1:0 by default.
	Listen string
	// Faults are asked before each operation, by operation name and the ID of
	// the first snapshot (or other resource) that the call is about.
	Faults *fault.Set

	// EncryptionByDefault is the account's setting.
	EncryptionByDefault bool
	// DefaultKMSKey is the ARN used where encryption is asked for without a
	// key; it defaults to an alias/aws/ebs key of the account.
	DefaultKMSKey string
	// KMSKeys, when set, are the only key ARNs that exist besides
	// DefaultKMSKey; any other is INVALID_CUSTOMER_KEY.
	KMSKeys []string

	// CompletionDelay passes between CompleteSnapshot and the state completed.
	CompletionDelay time.Duration
	// LateErrorDelay passes between CompleteSnapshot with a wrong count or
	// checksum and the state error; 0 means CompletionDelay. The real service
	// takes 30 s for a checksum and 10 min for a count.
	LateErrorDelay time.Duration
	// PropagationDelay is how long after StartSnapshot puts may answer 404
	// (two of three do), and how long after completion reads answer 404.
	PropagationDelay time.Duration
	// The compute side moves on by Now too; without delays a new state is there
	// at the next call after the one that began it.
	//
	// BootDelay is the time from pending to running, StatusDelay from running to
	// checks that are no more "initializing", AgentDelay from running until SSM
	// knows the instance, StopDelay and TerminateDelay what their names say.
	BootDelay, StatusDelay, AgentDelay, StopDelay, TerminateDelay time.Duration
	// VolumeDelay is what each of creating, attaching, detaching, modifying and
	// deleting a volume takes, ImageDelay the time from pending to available,
	// TaskDelay what a replacement of a root volume, an import and a command take.
	VolumeDelay, ImageDelay, TaskDelay time.Duration
	// VisibleDelay is how long a fresh resource of EC2 answers NotFound and is
	// left out of listings, TagDelay how long its tags, and changes of them, are
	// not shown. Snapshots have neither.
	VisibleDelay, TagDelay time.Duration
	// MaxVCPUs is the quota of vCPUs of what is pending or running; 0 is none.
	MaxVCPUs int
	// NoDefaultVPC leaves out the default VPC that new accounts have.
	NoDefaultVPC bool

	// OddPages makes listings answer empty and short pages with a token.
	OddPages bool

	// Request rates per second, with bursts of one second; 0 is unlimited. See
	// [RealQuotas].
	PutsPerSecondPerSnapshot, PutsPerSecondPerAccount float64
	GetsPerSecondPerSnapshot, GetsPerSecondPerAccount float64
	StartsPerSecond, CompletesPerSecond               float64
	ListPerSecond                                     float64
	// MaxPending is the number of pending snapshots that the account may have;
	// 0 is 100, the real quota, and negative is unlimited.
	MaxPending int

	// Latency is added before each answer.
	Latency time.Duration
	// Now is the clock for states, timeouts and tokens; nil is time.Now.
	Now func() time.Time
}

// Defaults of Options; the credentials are the ones of the AWS documentation.
const (
	defaultRegion  = "us-east-1"
	defaultAccount = "123456789012"
	defaultKeyID   = "AKIAIOSFODNN7EXAMPLE"
	defaultSecret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	defaultPending = 100
)

// RealQuotas returns Options with the request rates and the pending limit that
// AWS publishes for a region such as eu-central-1 (five regions have 5,000 puts
// and gets per account).
func RealQuotas() Options {
	return Options{
		PutsPerSecondPerSnapshot: 1000, PutsPerSecondPerAccount: 1000,
		GetsPerSecondPerSnapshot: 1000, GetsPerSecondPerAccount: 1000,
		StartsPerSecond: 10, CompletesPerSecond: 10, ListPerSecond: 50,
		MaxPending: defaultPending,
	}
}

func (o Options) withDefaults() Options {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Region, defaultRegion)
	def(&o.AccountID, defaultAccount)
	def(&o.AccessKeyID, defaultKeyID)
	def(&o.SecretAccessKey, defaultSecret)
	def(&o.Listen, "127.0.0.1:0")
	def(&o.DefaultKMSKey, "arn:aws:kms:"+o.Region+":"+o.AccountID+":key/5e2a7a6c-0000-4000-8000-00000000ebc5")
	if o.MaxPending == 0 {
		o.MaxPending = defaultPending
	}
	if o.LateErrorDelay == 0 {
		o.LateErrorDelay = o.CompletionDelay
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
