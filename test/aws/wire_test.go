package aws_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/test/aws"
)

// send signs and sends a request as it is; payload "" signs the body.
func (r *rig) send(service, method, path, payload string, header map[string]string, data []byte) *http.Response {
	r.Helper()
	req, err := http.NewRequestWithContext(r.ctx, method, r.e.URL()+path, bytes.NewReader(data))
	if err != nil {
		r.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if payload == "" {
		sum := sha256.Sum256(data)
		payload = hex.EncodeToString(sum[:])
	}
	req.Header.Set("X-Amz-Content-Sha256", payload)
	creds, err := r.cfg.Credentials.Retrieve(r.ctx)
	if err != nil {
		r.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(r.ctx, creds, req, payload, service, r.cfg.Region, time.Now()); err != nil {
		r.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func putHeader(data []byte) map[string]string {
	return map[string]string{
		"x-amz-Data-Length": "524288", "x-amz-Checksum": digest(data), "x-amz-Checksum-Algorithm": "SHA256",
		"Content-Type": "application/octet-stream",
	}
}

func TestRequiredHeaders(t *testing.T) {
	r := newRig(t, aws.Options{})
	id, b := r.start(ebs.StartSnapshotInput{}), random()
	for _, missing := range []string{"x-amz-Data-Length", "x-amz-Checksum", "x-amz-Checksum-Algorithm"} {
		h := putHeader(b)
		delete(h, missing)
		resp := r.send("ebs", "PUT", "/snapshots/"+id+"/blocks/0", "UNSIGNED-PAYLOAD", h, b)
		if resp.StatusCode != 400 {
			t.Errorf("put without %s: status %d", missing, resp.StatusCode)
		}
	}
	if resp := r.send("ebs", "POST", "/snapshots/completion/"+id, "", nil, nil); resp.StatusCode != 400 {
		t.Errorf("complete without a count: status %d", resp.StatusCode)
	}
	if resp := r.send("ebs", "PUT", "/snapshots/"+id+"/blocks/0", "UNSIGNED-PAYLOAD", putHeader(b), b); resp.StatusCode != 201 {
		t.Errorf("put: status %d", resp.StatusCode)
	}
	if resp := r.send("ebs", "PUT", "/snapshots/"+id+"/blocks/1", "", putHeader(b), b); resp.StatusCode != 201 {
		t.Errorf("put with a signed payload: status %d", resp.StatusCode)
	}
}

// The shapes are the captured ones of the service.
func TestErrorAndAnswerShapes(t *testing.T) {
	r := newRig(t, aws.Options{})
	resp := r.send("ebs", "GET", "/snapshots/snap-0123/blocks", "", nil, nil)
	want := `{"Message":"The snapshot 'snap-0123' does not exist.","Reason":"SNAPSHOT_NOT_FOUND"}`
	if got := statusOf(t, resp); got != want || resp.StatusCode != 404 {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	if got := resp.Header.Get("X-Amzn-Errortype"); got != "ResourceNotFoundException:http://internal.amazon.com/coral/com.amazon.zeppelindataservice/" {
		t.Errorf("error type %q", got)
	}
	resp = r.send("ebs", "GET", "/snapshots/snap-0123/blocks?maxResults=1", "", nil, nil)
	want = `{"message":"1 validation error detected: Value '1' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 100"}`
	if got := statusOf(t, resp); got != want || !strings.HasSuffix(resp.Header.Get("X-Amzn-Errortype"), "coral.validate/") {
		t.Errorf("%d %s %s", resp.StatusCode, got, resp.Header)
	}
	resp = r.send("ebs", "POST", "/snapshots", "", map[string]string{"Content-Type": "application/json"}, []byte(`{"VolumeSize":1}`))
	var out map[string]any
	if err := json.Unmarshal([]byte(statusOf(t, resp)), &out); err != nil || resp.StatusCode != 201 {
		t.Fatalf("start: %d, %v", resp.StatusCode, err)
	}
	for _, k := range []string{"KmsKeyArn", "ParentSnapshotId", "SseType", "Description", "Tags"} {
		if v, there := out[k]; !there || v != nil {
			t.Errorf("member %s is %v, want null", k, v)
		}
	}
	resp = r.send("ebs", "POST", "/snapshots", "", nil, []byte(`{"VolumeSize":"one"}`))
	if resp.StatusCode != 400 || !strings.HasPrefix(resp.Header.Get("X-Amzn-Errortype"), "SerializationException") {
		t.Errorf("malformed start: %d %s", resp.StatusCode, resp.Header)
	}
	resp = r.send("ec2", "POST", "/", "", map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
		[]byte("Action=DescribeSnapshots&Version=2016-11-15&SnapshotId.1=snap-0123"))
	got := statusOf(t, resp)
	if resp.StatusCode != 400 || !strings.Contains(got, "<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code><Message>The snapshot &#39;snap-0123&#39; does not exist.</Message></Error></Errors><RequestID>") {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

func TestEvery400ClosesTheConnection(t *testing.T) {
	for _, useTLS := range []bool{false, true} {
		r := newRig(t, aws.Options{TLS: useTLS})
		r.trust()
		id, b := r.start(ebs.StartSnapshotInput{}), random()
		reused := func(do func()) bool {
			var info httptrace.GotConnInfo
			ctx := r.ctx
			r.ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { info = i }})
			do()
			r.ctx = ctx
			return info.Reused
		}
		r.put(id, 0, b)
		if !reused(func() { r.put(id, 1, b) }) {
			t.Errorf("TLS %v: a good put lost its connection", useTLS)
		}
		bad := func() {
			if err := r.tryPut(id, 2048, b); err == nil {
				t.Error("a put beyond the volume succeeded")
			}
		}
		bad()
		if reused(func() { r.put(id, 1, b) }) {
			t.Errorf("TLS %v: the connection survived a 400", useTLS)
		}
		// A 404 keeps it.
		if err := r.tryPut("snap-0123", 0, b); err == nil {
			t.Error("a put to nowhere succeeded")
		}
		if !reused(func() { r.put(id, 1, b) }) {
			t.Errorf("TLS %v: the connection did not survive a 404", useTLS)
		}
	}
}

func TestUnknownRoutes(t *testing.T) {
	r := newRig(t, aws.Options{})
	for _, path := range []string{"/", "/snapshots/snap-1", "/snapshots/snap-1/blocks/0/x", "/other"} {
		if resp := r.send("ebs", "GET", path, "", nil, nil); resp.StatusCode != 404 || !strings.HasPrefix(resp.Header.Get("X-Amzn-Errortype"), "UnknownOperation") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header)
		}
	}
}

// signed makes a put request with an unsigned payload, for a handler.
func (r *rig) signed(tb testing.TB, method, path string, header map[string]string) *http.Request {
	tb.Helper()
	req, err := http.NewRequestWithContext(r.ctx, method, r.e.URL()+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	creds, err := r.cfg.Credentials.Retrieve(r.ctx)
	if err != nil {
		tb.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(r.ctx, creds, req, "UNSIGNED-PAYLOAD", "ebs", r.cfg.Region, time.Now()); err != nil {
		tb.Fatal(err)
	}
	return req
}

func newBody(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// sink is a response that is thrown away.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
