package launch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
)

// withChecks runs a test launch with these checks; the instance's address leads
// to a server here.
func withChecks(t *testing.T, handler http.Handler, ssm SSM, flat map[string]string) (*rig, *Job, error) {
	t.Helper()
	g := newRig(t)
	if handler != nil {
		srv := httptest.NewServer(handler)
		t.Cleanup(srv.Close)
		g.addr = srv.Listener.Addr().String()
	}
	for k, v := range map[string]string{"check0.timeout": "5s", "check0.attempts": "3", "check0.pause": "1s"} {
		if flat[k] == "" {
			flat[k] = v
		}
	}
	j := g.job(ForTest, flat)
	l := g.launcher()
	l.ssm = ssm
	err := l.Test(t.Context(), &j)
	return g, &j, err
}

func TestHTTPCheck(t *testing.T) {
	n := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "all is well")
	})
	flat := map[string]string{"check0.http": "http://{ip}:8080/health", "check0.contains": "well"}
	g, j, err := withChecks(t, handler, nil, flat)
	g.must(err)
	if c := j.Checks[0]; !c.OK || c.Attempts != 3 {
		t.Errorf("%+v", c)
	}
	if p := ProofOf(g.snaps["snap-c1-2"].tags); p == nil || !p.OK || p.Checks != 1 || p.Type != "c6i.large" {
		t.Errorf("proof %+v", p)
	}
	flat["check0.contains"] = "wrong"
	n = 0
	g, j, err = withChecks(t, handler, nil, flat)
	if err == nil || j.Checks[0].OK || !strings.Contains(j.Error, "does not contain") {
		t.Fatalf("%v, %+v", err, j.Checks)
	}
	if p := ProofOf(g.snaps["snap-c1-1"].tags); p == nil || p.OK || p.Text == "" {
		t.Errorf("proof %+v", p)
	}
	if len(g.alive(ForTest)) != 1 || j.Console == "" {
		t.Error("nothing is left to look at")
	}
	g.must(g.launcher().EndTest(t.Context(), j))
	g.only("snap-c1-")
}

func TestHTTPCheckFollowsNoRedirect(t *testing.T) {
	_, j, err := withChecks(t, http.RedirectHandler("http://other.invalid/", http.StatusFound), nil, map[string]string{"check0.http": "http://{ip}/"})
	if err == nil || !strings.Contains(j.Checks[0].Text, "status 302") {
		t.Errorf("%v %+v", err, j.Checks)
	}
}

func TestTCPCheck(t *testing.T) {
	g, j, err := withChecks(t, http.NotFoundHandler(), nil, map[string]string{"check0.tcp": "22"})
	g.must(err)
	if !j.Checks[0].OK {
		t.Errorf("%+v", j.Checks)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	_ = ln.Close()
	g = newRig(t)
	g.addr = closed
	job := g.job(ForTest, map[string]string{"check0.tcp": "22", "check0.attempts": "2"})
	if err := g.launcher().Test(t.Context(), &job); err == nil || job.Checks[0].Attempts != 2 {
		t.Errorf("%v %+v", err, job.Checks)
	}
	job = g.job(ForTest, map[string]string{"check0.tcp": "22", "check0.address": "public", "check0.attempts": "1"})
	if err := g.launcher().Test(t.Context(), &job); err == nil || !strings.Contains(job.Checks[0].Text, "no such address") {
		t.Errorf("%v %+v", err, job.Checks)
	}
}

func script(t *testing.T, body string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "check.sh")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestScriptCheck(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
	g, j, err := withChecks(t, nil, nil, map[string]string{"check0.script": script(t, `echo "$SNAPFERRY_INSTANCE $SNAPFERRY_PURPOSE $SNAPFERRY_VM $SNAPFERRY_IP"; env`)})
	g.must(err)
	out := j.Checks[0].Output
	if !strings.HasPrefix(out, j.Instance+" test vm-7 "+j.PrivateIP+"\n") {
		t.Errorf("output %q", out)
	}
	if strings.Contains(out, "hunter2") {
		t.Error("the script sees our credentials")
	}
	_, j, err = withChecks(t, nil, nil, map[string]string{"check0.script": script(t, "echo no >&2; exit 3"), "check0.attempts": "1"})
	if err == nil || !strings.Contains(j.Checks[0].Text, "exit status 3") || j.Checks[0].Output != "no\n" {
		t.Errorf("%v %+v", err, j.Checks)
	}
	started := time.Now()
	_, j, err = withChecks(t, nil, nil, map[string]string{"check0.script": script(t, "sleep 60"), "check0.attempts": "1", "check0.timeout": "100ms"})
	if err == nil || !strings.Contains(j.Checks[0].Text, "in time") || time.Since(started) > 30*time.Second {
		t.Errorf("%v %+v after %v", err, j.Checks, time.Since(started))
	}
}

func TestScriptOutputIsBounded(t *testing.T) {
	g, j, err := withChecks(t, nil, nil, map[string]string{"check0.script": script(t, `i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done`)})
	g.must(err)
	if out := j.Checks[0].Output; len(out) > maxOutput || !strings.HasSuffix(out, "line 1999\n") {
		t.Errorf("%d bytes, end %q", len(out), out[max(0, len(out)-20):])
	}
}

type fakeSSM func(instance string, windows bool, command string) (string, error)

func (f fakeSSM) Run(_ context.Context, instance string, windows bool, command string) (string, error) {
	return f(instance, windows, command)
}

func TestSSMCheck(t *testing.T) {
	n := 0
	ssm := fakeSSM(func(instance string, windows bool, command string) (string, error) {
		if windows || command != "systemctl is-active app" || !strings.HasPrefix(instance, "i-") {
			return "", errors.New("other arguments")
		}
		if n++; n == 1 {
			return "", errors.New("InvalidInstanceId")
		}
		return "active\n", nil
	})
	g, j, err := withChecks(t, nil, ssm, map[string]string{"check0.ssm": "systemctl is-active app"})
	g.must(err)
	if c := j.Checks[0]; !c.OK || c.Attempts != 2 || c.Output != "active\n" {
		t.Errorf("%+v", c)
	}
}

func TestSystemsManager(t *testing.T) {
	looks := 0
	status := "Success"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if a := r.Header.Get("Authorization"); !strings.Contains(a, "/eu-central-1/ssm/aws4_request") {
			t.Errorf("signed as %q", a)
		}
		switch target := r.Header.Get("X-Amz-Target"); target {
		case "AmazonSSM.SendCommand":
			if in["DocumentName"] != "AWS-RunShellScript" {
				t.Errorf("document %v", in["DocumentName"])
			}
			_, _ = io.WriteString(w, `{"Command":{"CommandId":"c-1"}}`)
		case "AmazonSSM.GetCommandInvocation":
			switch looks++; looks {
			case 1:
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"__type":"InvocationDoesNotExist"}`)
			case 2:
				_, _ = io.WriteString(w, `{"Status":"InProgress"}`)
			default:
				_, _ = io.WriteString(w, `{"Status":"`+status+`","StandardOutputContent":"out","StandardErrorContent":"err"}`)
			}
		default:
			t.Errorf("called %s", target)
		}
	}))
	defer srv.Close()
	s := &SystemsManager{Region: "eu-central-1", Endpoint: srv.URL, Credentials: credentials.NewStaticCredentialsProvider("AK", "SK", ""), HTTP: srv.Client(), Poll: time.Millisecond}
	out, err := s.Run(t.Context(), "i-1", false, "true")
	if err != nil || out != "outerr" || looks != 3 {
		t.Errorf("%q, %v, %d looks", out, err, looks)
	}
	status = "Failed"
	if out, err := s.Run(t.Context(), "i-1", false, "false"); err == nil || out != "outerr" {
		t.Errorf("a command that fails: %q, %v", out, err)
	}
}
