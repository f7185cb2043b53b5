package aws_test

import (
	"net/http/httptrace"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

func TestCloseEndsStalledRequestsAndRemovesData(t *testing.T) {
	set, dir := fault.New(1), t.TempDir()
	r := newRig(t, aws.Options{Faults: set, Dir: dir, Latency: time.Millisecond})
	id := r.start(ebs.StartSnapshotInput{})
	r.put(id, 0, random())
	if n := entries(t, dir); n != 1 {
		t.Errorf("%d files hold data, want 1", n)
	}
	set.Add(fault.Rule{Op: "PutSnapshotBlock", Kind: fault.Stall})
	sent, done := make(chan struct{}), make(chan error)
	r.ctx = httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }})
	go func() { done <- r.tryPut(id, 1, random()) }()
	<-sent
	if err := r.e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the stalled put succeeded")
	}
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files are left", n)
	}
	r.ctx = t.Context()
	if err := r.tryPut(id, 2, random()); err == nil {
		t.Error("a put succeeded after Close")
	}
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	e, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestListenFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := aws.New(aws.Options{Dir: dir, Listen: "256.0.0.1:0"}); err == nil {
		t.Fatal("listening nowhere succeeded")
	}
	if n := entries(t, dir); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if _, err := aws.New(aws.Options{Dir: dir + "/missing"}); err == nil {
		t.Error("a missing directory was accepted")
	}
}
