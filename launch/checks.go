package launch

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// CheckKind is how a launched instance is looked at.
type CheckKind string

// The kinds.
const (
	CheckTCP    CheckKind = "tcp"
	CheckHTTP   CheckKind = "http"
	CheckSSM    CheckKind = "ssm"
	CheckScript CheckKind = "script"
)

// Check is one look at a launched instance.
type Check struct {
	Kind     CheckKind     `json:"kind"`
	Target   string        `json:"target"`            // port, URL with {ip}, command, path
	Address  string        `json:"address,omitempty"` // "private" (default) or "public"
	Status   int           `json:"status,omitempty"`  // of HTTP; 0 is 200
	Contains string        `json:"contains,omitempty"`
	Insecure bool          `json:"insecure,omitempty"`
	Timeout  time.Duration `json:"timeoutNs,omitempty"` // of each attempt
	Attempts int           `json:"attempts,omitempty"`
	Pause    time.Duration `json:"pauseNs,omitempty"`
}

// CheckResult is what came of a check.
type CheckResult struct {
	Name     string        `json:"name"`
	Kind     CheckKind     `json:"kind"`
	OK       bool          `json:"ok"`
	Attempts int           `json:"attempts"`
	Text     string        `json:"text"`             // one line
	Output   string        `json:"output,omitempty"` // the end of a command's
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"tookNs"`
}

// Defaults of checks: services come up minutes after EC2 calls the guest
// running, so the attempts go on for at least five.
const (
	checkTimeout  = 30 * time.Second
	checkAttempts = 20
	checkPause    = 15 * time.Second
	maxOutput     = 4 << 10 // of a command, its end
	maxBody       = 1 << 20 // of an HTTP answer that is searched
)

func (c Check) withDefaults() Check {
	if c.Timeout == 0 {
		c.Timeout = checkTimeout
	}
	if c.Attempts == 0 {
		c.Attempts = checkAttempts
	}
	if c.Pause == 0 {
		c.Pause = checkPause
	}
	if c.Status == 0 {
		c.Status = http.StatusOK
	}
	return c
}

func (c Check) checkURL() error {
	u, err := url.Parse(strings.ReplaceAll(c.Target, "{ip}", "192.0.2.1"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is no http or https URL", c.Target)
	}
	if !strings.Contains(c.Target, "{ip}") {
		return fmt.Errorf("%q does not hold {ip}: it would look at another machine", c.Target)
	}
	if u.User != nil {
		return errors.New("a URL with a password would be seen in logs")
	}
	return nil
}

// check makes the attempts.
func (r *run) check(ctx context.Context, name string, c Check) CheckResult {
	c = c.withDefaults()
	started := r.now()
	result := CheckResult{Name: name + " (" + string(c.Kind) + ")", Kind: c.Kind, At: started}
	for {
		result.Attempts++
		actx, cancel := context.WithTimeout(ctx, c.Timeout)
		text, output, err := r.attempt(actx, c)
		cancel()
		result.OK, result.Text, result.Output = err == nil, printable(text, maxTagValue), tail(output, maxOutput)
		if err != nil {
			result.Text = printable(err.Error(), 2*maxTagValue)
		}
		if err == nil || result.Attempts >= c.Attempts || ctx.Err() != nil || r.sleep(ctx, c.Pause) != nil {
			result.Took = r.now().Sub(started)
			return result
		}
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

func (r *run) attempt(ctx context.Context, c Check) (text, output string, err error) {
	ip := r.job.PrivateIP
	if c.Address == "public" {
		ip = r.job.PublicIP
	}
	switch c.Kind {
	case CheckTCP, CheckHTTP:
		if ip == "" {
			return "", "", errors.New("the instance has no such address")
		}
	}
	switch c.Kind {
	case CheckTCP:
		text, err = r.checkTCP(ctx, net.JoinHostPort(ip, c.Target))
		return text, "", err
	case CheckHTTP:
		text, err = r.checkHTTP(ctx, c, ip)
		return text, "", err
	case CheckSSM:
		return r.checkSSM(ctx, c)
	case CheckScript:
		return r.checkScript(ctx, c, ip)
	}
	return "", "", fmt.Errorf("%q is no kind of check", c.Kind)
}

func (r *run) checkTCP(ctx context.Context, address string) (string, error) {
	conn, err := r.dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	return "connected to " + address, conn.Close()
}

func (r *run) checkHTTP(ctx context.Context, c Check, ip string) (string, error) {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	target := strings.ReplaceAll(c.Target, "{ip}", ip)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	rt := r.http
	if rt == nil {
		own := &http.Transport{DialContext: r.dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: c.Insecure}} //nolint:gosec // asked for by the user, of a guest known by its address
		defer own.CloseIdleConnections()
		rt = own
	}
	// A redirect would lead to another machine: its status is the answer.
	client := &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != c.Status {
		return "", fmt.Errorf("get %s: status %d and not %d", target, resp.StatusCode, c.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", fmt.Errorf("get %s: %w", target, err)
	}
	if !bytes.Contains(body, []byte(c.Contains)) {
		return "", fmt.Errorf("get %s: the answer does not contain %q", target, c.Contains)
	}
	return fmt.Sprintf("get %s: status %d, %d bytes", target, resp.StatusCode, len(body)), nil
}

// checkSSM runs a command in the guest.
func (r *run) checkSSM(ctx context.Context, c Check) (string, string, error) {
	if r.ssm == nil {
		return "", "", errors.New("there is no Systems Manager client")
	}
	windows := strings.HasPrefix(guest(r.job.Request).ID, "win") // vSphere's guest IDs; there is a darwin too
	out, err := r.ssm.Run(ctx, r.job.Instance, windows, c.Target)
	if err != nil {
		return "", out, err
	}
	return "the command ended well", out, nil
}

// checkScript runs the user's program here, without a shell: nothing of the
// instance's is ever part of a command line, and no credentials of ours are in
// its environment.
func (r *run) checkScript(ctx context.Context, c Check, ip string) (string, string, error) {
	cmd := exec.CommandContext(ctx, c.Target)
	cmd.WaitDelay = time.Second // children that hold its output open
	var out lastBytes
	cmd.Stdout, cmd.Stderr = &out, &out
	j := r.job
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8",
		"SNAPFERRY_JOB=" + string(j.ID), "SNAPFERRY_PURPOSE=" + string(j.Request.Purpose), "SNAPFERRY_VM=" + j.Request.VM.Moref,
		"SNAPFERRY_VM_NAME=" + printable(j.Request.VMName, maxTagValue), "SNAPFERRY_POINT=" + string(j.Request.Point.Cycle),
		"SNAPFERRY_INSTANCE=" + j.Instance, "SNAPFERRY_IP=" + ip,
		"SNAPFERRY_PRIVATE_IP=" + j.PrivateIP, "SNAPFERRY_PUBLIC_IP=" + j.PublicIP,
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not end in time: %w", ctx.Err())
	}
	if err != nil {
		return "", out.String(), fmt.Errorf("run %s: %w", c.Target, err)
	}
	return c.Target + " ended well", out.String(), nil
}

// lastBytes keeps the end of what is written.
type lastBytes struct{ b []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if over := len(l.b) - maxOutput; over > 0 {
		l.b = append(l.b[:0], l.b[over:]...)
	}
	return len(p), nil
}

func (l *lastBytes) String() string { return string(l.b) }
