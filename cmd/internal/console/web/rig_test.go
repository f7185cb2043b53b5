package web_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"snapferry/cmd/internal/console"
	"snapferry/cmd/internal/console/web"
	"snapferry/schedule"
)

const (
	operatorToken = "operator-token-of-the-tests"
	viewerToken   = "viewer-token-of-the-tests"
)

// serve starts the real console on a fleet, with these pages in it.
func serve(t *testing.T, f *fake) *httptest.Server {
	t.Helper()
	pages := web.New(web.Config{Backend: f, Launches: f, Version: "1.4.0", Now: func() time.Time { return theNow }, Log: slog.New(slog.DiscardHandler),
		Actor: func(r *http.Request) (schedule.Actor, bool) { return console.ActorOf(r.Context()) }})
	c := console.New(console.Config{Backend: f, Launches: f, Web: pages, Version: "1.4.0", Poll: 50 * time.Millisecond,
		RateLimit: console.RateLimit{PerSecond: 1000, Burst: 1000}, // the tests are faster than people
		Tokens: []console.Token{
			{Name: "k.hansen", Role: schedule.RoleOperator, SHA256: sha256.Sum256([]byte(operatorToken))},
			{Name: "auditor", Role: schedule.RoleViewer, SHA256: sha256.Sum256([]byte(viewerToken))},
		}})
	s := httptest.NewServer(c)
	t.Cleanup(func() { c.Close(); s.CloseClientConnections(); s.Close() })
	return s
}

// The browser that all tests share.
var chromium struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chromium.stop != nil {
		chromium.stop()
	}
	os.Exit(code)
}

func startChromium() {
	path := os.Getenv("CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := exec.LookPath(path); err != nil {
		chromium.err = fmt.Errorf("%w: the browser tests need Debian's package chromium (apt-get install chromium), or CHROMIUM set to a browser", err)
		return
	}
	dir, err := os.MkdirTemp("", "console-browser-")
	if err != nil {
		chromium.err = err
		return
	}
	flags := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	flags = append(flags, chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("force-prefers-reduced-motion", false), chromedp.WindowSize(1440, 900))
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), flags...)
	// chromedp reports events that it does not know as errors; they are none.
	ctx, stop := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	chromium.ctx = ctx
	chromium.stop = func() { stop(); stopAlloc(); _ = os.RemoveAll(dir) }
	chromium.err = chromedp.Run(ctx)
}

// tab is a page of the shared browser, with cookies and storage of its own.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex
	faults []string
	expect []string // parts of faults that the test provokes
}

// newTab opens a tab and fails the test at its end if anything was wrong in
// it: an error in the console, a request that left the origin.
func newTab(t *testing.T, base string, wide, high int64) *tab {
	t.Helper()
	chromium.once.Do(startChromium)
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	id, dispose, err := newWindow()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithTargetID(id))
	most := 100 * time.Second
	if *update { // thirty pictures
		most = 6 * time.Minute
	}
	ctx, cancelTime := context.WithTimeout(ctx, most)
	b := &tab{t: t, ctx: ctx, base: base}
	t.Cleanup(func() {
		cancelTime()
		cancel()
		dispose()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range b.faults {
			t.Error(f)
		}
	})
	chromedp.ListenTarget(ctx, b.watch)
	b.do(network.Enable(), log.Enable(), emulation.SetTimezoneOverride("Europe/Berlin"), emulation.SetDeviceMetricsOverride(wide, high, 1, wide < 600))
	return b
}

// newWindow opens an empty page in a browser context of its own. (chromedp's
// own way, WithNewBrowserContext, asks for a tab where there is no window yet,
// which Chromium refuses.)
func newWindow() (target.ID, func(), error) {
	browser := cdp.WithExecutor(chromium.ctx, chromedp.FromContext(chromium.ctx).Browser)
	own, err := target.CreateBrowserContext().Do(browser)
	if err != nil {
		return "", nil, fmt.Errorf("make a browser context: %w", err)
	}
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(own).WithNewWindow(true).Do(browser)
	if err != nil {
		return "", nil, fmt.Errorf("open a window: %w", err)
	}
	return id, func() { _ = target.DisposeBrowserContext(own).Do(browser) }, nil
}

func (b *tab) watch(ev any) {
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.fault("exception in the page: " + e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			b.fault(fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.fault("browser log: " + e.Entry.Text + " " + e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base+"/") && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			b.fault("a request left the origin: " + u)
		}
	}
}

func (b *tab) fault(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.expect {
		if strings.Contains(text, part) {
			return
		}
	}
	b.faults = append(b.faults, text)
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.fatal(err)
	}
}

func (b *tab) fatal(err error) {
	b.t.Helper()
	var where, text string
	if !errors.Is(b.ctx.Err(), context.DeadlineExceeded) {
		_ = chromedp.Run(b.ctx, chromedp.Location(&where), chromedp.Evaluate(`document.body.innerText.slice(0, 600)`, &text))
	}
	b.t.Fatalf("%v\nat %s\n%s\nfaults: %q", err, where, text, b.faults)
}

// eval runs a script for its value.
func eval[T any](b *tab, script string) (v T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, &v))
	return v
}

// until waits for a script to be true, across pages: one that is leaving
// cannot be asked.
func (b *tab) until(script string) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && b.ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		var ok bool
		if err = chromedp.Run(b.ctx, chromedp.Evaluate(script, &ok)); err == nil && ok {
			return
		}
	}
	b.fatal(fmt.Errorf("wait for %s: %w", script, errors.Join(errors.New("it did not come true"), err)))
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// click presses the mouse on what selector finds.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.onNode(chromedp.Click(selector, chromedp.ByQuery, chromedp.NodeVisible))
}

// onNode looks for a node and does something with it. A page that refreshes itself
// in between has another one there: then both once more, since nothing was done.
func (b *tab) onNode(a chromedp.Action) {
	b.t.Helper()
	for try := 1; ; try++ {
		err := chromedp.Run(b.ctx, a)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "Could not find node with given id") || try == 10 {
			b.fatal(err)
		}
	}
}

func (b *tab) keys(text string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(text))
}

// signIn does what a person does on the login page.
func (b *tab) signIn(token string) {
	b.t.Helper()
	b.open("/login")
	b.do(chromedp.SendKeys(`input[name=token]`, token, chromedp.ByQuery))
	b.click(`form button[type=submit]`)
	b.until(`document.readyState === "complete" && document.querySelector(".tiles") !== null`)
}
