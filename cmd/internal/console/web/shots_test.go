package web_test

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

var update = flag.Bool("update", false, "write golden files and docs/console/*.png anew")

// shotsDir is where the pictures of the manual are.
var shotsDir = filepath.Join("..", "..", "..", "..", "docs", "console")

// maxShot bounds a picture: they are kept in the repository.
const maxShot = 200 << 10

var shots = []struct{ name, path string }{
	{"overview", "/"}, {"vms", "/vms?sort=lag&desc=1"}, {"vm", "/vms/" + vcenter + "/vm-1003"}, {"vm-stalled", "/vms/" + vcenter + "/vm-1013"}, {"runs", "/runs"}, {"run", "/runs/84150"},
	{"launches", "/launches?all=1"}, {"vm-launch", "/vms/" + vcenter + "/" + failedVM}, {"launch", "/launches/" + jobID(cutting)}, {"launch-failed", "/launches/" + jobID(failedVM)}, {"launch-test", "/launches/" + jobID(tested)}, {"launch-finalized", "/launches/" + jobID(finalized)},
	{"waves", "/waves"}, {"wave", "/waves/wave-2-erp"}, {"alarms", "/alarms"}, {"events", "/events"}, {"audit", "/events?view=audit"}, {"policies", "/policies"}, {"settings", "/settings"},
}

// TestScreenshots makes each page's picture in both themes and two of a phone;
// with -update it writes them under docs/console.
func TestScreenshots(t *testing.T) {
	if !*update {
		for _, s := range shots {
			for _, theme := range []string{"light", "dark"} {
				info, err := os.Stat(filepath.Join(shotsDir, s.name+"-"+theme+".png"))
				if err != nil || info.Size() > maxShot {
					t.Errorf("picture of %s, %s: %v (run go test -run TestScreenshots -update)", s.name, theme, err)
				}
			}
		}
		return
	}
	s := serve(t, newFake(2000))
	b := newTab(t, s.URL, 1440, 900)
	for _, theme := range []string{"light", "dark"} {
		b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}))
		b.shot("login-"+theme, "/login", 1440, 900)
		b.signIn(operatorToken)
		for _, p := range shots {
			b.shot(p.name+"-"+theme, p.path, 1440, 0)
		}
		b.open("/vms/" + vcenter + "/vm-1004")
		b.click(`[data-dialog=disconnect]`)
		b.do(chromedp.SendKeys(`#dialog-disconnect input[name=typed]`, "files-", chromedp.ByQuery))
		b.write("dialog-"+theme, 1440, 900)
		b.click(`#dialog-disconnect [data-close]`)
		b.open("/vms/" + vcenter + "/" + readyVM)
		b.click(`[data-dialog=launch-cutover]`)
		b.until(`document.querySelector("#dialog-launch-cutover [data-possible]") !== null`)
		b.do(chromedp.SendKeys(`#dialog-launch-cutover input[name=typed]`, "erp-app-06", chromedp.ByQuery), chromedp.Evaluate(`document.querySelector("#dialog-launch-cutover").scrollTop = 0`, nil))
		b.write("dialog-cutover-"+theme, 1440, 1000)
		b.click(`#dialog-launch-cutover [data-close]`)
		b.click(`form.who button`)
		b.until(`document.querySelector("input[name=token]") !== null`)
	}
	b.signIn(operatorToken)
	b.do(emulation.SetDeviceMetricsOverride(360, 780, 2, true))
	b.shot("phone-overview-dark", "/", 360, 1400)
	b.shot("phone-launch-dark", "/launches/"+jobID(failedVM), 360, 1400)
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}))
	b.shot("phone-vm-light", "/vms/"+vcenter+"/"+tested, 360, 1700)
	b.shot("phone-vms-light", "/vms?"+url.Values{"text": {"db-prod"}}.Encode(), 360, 1400)
}

func (b *tab) shot(name, path string, wide, high int64) {
	b.t.Helper()
	b.do(emulation.SetDeviceMetricsOverride(wide, 700, 1, wide < 600)) // or pages would be as high as the one before
	b.open(path)
	b.do(chromedp.Evaluate(`document.fonts.ready.then(() => true)`, nil))
	b.write(name, wide, high)
}

// write takes what the page shows, at most 1,500 pixels of its height.
func (b *tab) write(name string, wide, high int64) {
	b.t.Helper()
	if high == 0 {
		high = min(max(eval[int64](b, `document.documentElement.scrollHeight`), 700), 1500)
	}
	scale := 1.0
	if wide < 600 {
		scale = 2
	}
	b.do(emulation.SetDeviceMetricsOverride(wide, high, scale, wide < 600))
	var png []byte
	b.do(chromedp.ActionFunc(func(ctx contextT) (err error) {
		png, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatPng).WithOptimizeForSpeed(false).Do(ctx)
		return err
	}))
	png = squeeze(b.t, png)
	if len(png) > maxShot {
		b.t.Errorf("picture %s has %d bytes", name, len(png))
	}
	if err := os.MkdirAll(shotsDir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shotsDir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Log(fmt.Sprintf("%s.png", name), len(png))
}
