package aws_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"snapferry/test/aws"
)

// trust makes the SDK clients believe the emulator's authority.
func (r *rig) trust() {
	if r.e.CACert() == nil {
		return
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.e.CACert())
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	})
	r.ebs = ebs.NewFromConfig(r.cfg, func(o *ebs.Options) { o.BaseEndpoint, o.HTTPClient = awssdk.String(r.e.EBSEndpoint()), client })
	r.ec2 = ec2.NewFromConfig(r.cfg, func(o *ec2.Options) { o.BaseEndpoint, o.HTTPClient = awssdk.String(r.e.EC2Endpoint()), client })
}

// errorsOf calls each service once.
func (r *rig) errorsOf() (ebsErr, ec2Err, stsErr error) {
	_, ebsErr = r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1)})
	_, ec2Err = r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	client := sts.NewFromConfig(r.cfg, func(o *sts.Options) { o.BaseEndpoint = awssdk.String(r.e.STSEndpoint()) })
	_, stsErr = client.GetCallerIdentity(r.ctx, &sts.GetCallerIdentityInput{})
	return ebsErr, ec2Err, stsErr
}

func TestCredentialsAreVerified(t *testing.T) {
	const key, secret, session = "AKIDTEST", "topsecret", "session"
	r := newRig(t, aws.Options{AccessKeyID: key, SecretAccessKey: secret, SessionToken: session, Region: "eu-central-1"})
	if a, b, c := r.errorsOf(); a != nil || b != nil || c != nil {
		t.Fatalf("good credentials: %v; %v; %v", a, b, c)
	}
	for name, c := range map[string]struct {
		key, secret, session, region string
		ebs, ec2, sts                string
	}{
		"wrong secret":    {key, "other", session, "eu-central-1", "InvalidSignatureException 403", "AuthFailure 401", "SignatureDoesNotMatch 403"},
		"unknown key":     {"AKIDOTHER", secret, session, "eu-central-1", "UnrecognizedClientException 403", "AuthFailure 401", "InvalidClientTokenId 403"},
		"no session":      {key, secret, "", "eu-central-1", "UnrecognizedClientException 403", "AuthFailure 401", "InvalidClientTokenId 403"},
		"another region":  {key, secret, session, "us-west-2", "InvalidSignatureException 403", "AuthFailure 401", " 0"},
		"another session": {key, secret, "old", "eu-central-1", "UnrecognizedClientException 403", "AuthFailure 401", "InvalidClientTokenId 403"},
	} {
		r.configure(c.key, c.secret, c.session, c.region)
		ebsErr, ec2Err, stsErr := r.errorsOf()
		r.wantEach(name, []error{ebsErr, ec2Err, stsErr}, []string{c.ebs, c.ec2, c.sts})
	}
	if n := len(r.e.Snapshots()); n != 1 {
		t.Errorf("%d snapshots, want the first one only", n)
	}
}

func (r *rig) wantEach(name string, errs []error, want []string) {
	r.Helper()
	for i, err := range errs {
		c, status := code(err)
		wc, ws, _ := strings.Cut(want[i], " ")
		if c != wc || ws != strconv.Itoa(status) {
			r.Errorf("%s: service %d gave %v, want %s", name, i, err, want[i])
		}
	}
}

func TestExpiredAndSkewed(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.e.ExpireCredentials()
	a, b, c := r.errorsOf()
	r.wantEach("expired", []error{a, b, c}, []string{"ExpiredTokenException 403", "RequestExpired 400", "ExpiredToken 403"})
	r.e.RenewCredentials()
	for _, skew := range []time.Duration{6 * time.Minute, -6 * time.Minute} {
		r.e.SetClockSkew(skew)
		r.configure("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
		a, b, c = r.errorsOf()
		r.wantEach("skew "+skew.String(), []error{a, b, c}, []string{"InvalidSignatureException 403", "RequestExpired 400", "SignatureDoesNotMatch 403"})
	}
	r.e.SetClockSkew(4 * time.Minute)
	r.configure("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
	if a, b, c := r.errorsOf(); a != nil || b != nil || c != nil {
		t.Errorf("four minutes of skew: %v; %v; %v", a, b, c)
	}
	r.e.SetCredentials("AKIDNEW", "new", "")
	a, _, _ = r.errorsOf()
	r.wantError(a, "UnrecognizedClientException", 403)
}

func TestSignatureCoversHeadersAndBody(t *testing.T) {
	r := newRig(t, aws.Options{})
	id, b := r.start(ebs.StartSnapshotInput{}), random()
	// Only PutSnapshotBlock may leave its payload unsigned.
	resp := r.send("ebs", "POST", "/snapshots", "UNSIGNED-PAYLOAD", nil, []byte(`{"VolumeSize":1}`))
	if resp.StatusCode != 403 || !strings.HasPrefix(resp.Header.Get("X-Amzn-Errortype"), "InvalidSignatureException") {
		t.Errorf("unsigned start: %d", resp.StatusCode)
	}
	// A payload other than the signed one is caught even where the hash header agrees with the signature.
	resp = r.send("ebs", "PUT", "/snapshots/"+id+"/blocks/0", strings.Repeat("0", 64), putHeader(b), b)
	if resp.StatusCode != 403 {
		t.Errorf("put with a false payload hash: %d", resp.StatusCode)
	}
	req, err := http.NewRequestWithContext(r.ctx, "GET", r.e.URL()+"/snapshots/"+id+"/blocks", nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if got := statusOf(t, plain); plain.StatusCode != 403 || !strings.Contains(got, "Missing Authentication Token") {
		t.Errorf("unsigned request: %d %s", plain.StatusCode, got)
	}
}

func TestDeny(t *testing.T) {
	r := newRig(t, aws.Options{})
	in := ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), Tags: tags(1)}
	id := r.start(in)
	var denied string
	r.e.Deny(func(action string) bool { return action == denied })
	for _, denied = range []string{"ebs:StartSnapshot", "ec2:CreateTags"} {
		_, err := r.ebs.StartSnapshot(r.ctx, &in)
		r.wantError(err, "AccessDeniedException", 403)
	}
	denied = "ebs:PutSnapshotBlock"
	r.wantError(r.tryPut(id, 0, random()), "AccessDeniedException", 403)
	denied = "ec2:DescribeSnapshots"
	_, err := r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{DryRun: awssdk.Bool(true)})
	r.wantError(err, "UnauthorizedOperation", 403)
	denied = "kms:GenerateDataKeyWithoutPlaintext"
	_, err = r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), Encrypted: awssdk.Bool(true)})
	var ad *ebstypes.AccessDeniedException
	if !errors.As(err, &ad) || ad.Reason != "DEPENDENCY_ACCESS_DENIED" {
		t.Errorf("denied key: %v", err)
	}
	if n := len(r.e.Snapshots()); n != 1 {
		t.Errorf("%d snapshots, want 1", n)
	}
}

func TestTLSAndIdentity(t *testing.T) {
	r := newRig(t, aws.Options{TLS: true})
	if _, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1)}); err == nil {
		t.Error("an unknown authority was trusted")
	}
	r.trust()
	id, b := r.start(ebs.StartSnapshotInput{}), random()
	r.put(id, 0, b)
	r.complete(id, 1, linear(map[int][]byte{0: b}))
	out, err := r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil || out.Snapshots[0].State != ec2types.SnapshotStateCompleted {
		t.Errorf("describe: %v, %v", out, err)
	}
	plain := newRig(t, aws.Options{AccountID: "210987654321"})
	client := sts.NewFromConfig(plain.cfg, func(o *sts.Options) { o.BaseEndpoint = awssdk.String(plain.e.STSEndpoint()) })
	who, err := client.GetCallerIdentity(plain.ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *who.Account != "210987654321" || *who.Arn != "arn:aws:iam::210987654321:user/snapferry" {
		t.Errorf("identity %+v, %v", who, err)
	}
}
