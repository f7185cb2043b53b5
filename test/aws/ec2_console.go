package aws

import (
	"bytes"
	"encoding/base64"
	"fmt"
	picture "image"
	"image/color"
	"image/jpeg"
)

// maxConsole is how much of the console EC2 keeps, in bytes.
const maxConsole = 64 << 10

func (c *call) consoleOutput(p *params) (any, *apiError) {
	id, latest := p.required("InstanceId"), p.boolean("Latest")
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	i, err := c.e.instance(id)
	if err != nil {
		return nil, err
	}
	if latest && i.kind.hypervisor != "nitro" {
		return nil, ec2Fault("UnsupportedOperation", "This instance type does not support retrieving the latest console logs.")
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	text := i.consoleText(c.e)
	if len(text) > maxConsole {
		text = text[len(text)-maxConsole:]
	}
	return struct {
		ID     string `xml:"instanceId"`
		Time   string `xml:"timestamp"`
		Output string `xml:"output,omitempty"`
	}{id, ec2Stamp(c.e.now()), base64.StdEncoding.EncodeToString([]byte(text))}, nil
}

// consoleText is what a guest has written: that of a test, or a likely one.
func (i *instance) consoleText(e *Emulator) string {
	switch {
	case i.state == "pending":
		return ""
	case i.console != nil:
		return *i.console
	case i.ill:
		return "[    1.204113] /dev/root: Can't open blockdev\r\n[    1.204402] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
	}
	return fmt.Sprintf("[    0.000000] Linux version 6.1.0 (%s)\r\n%s login: ", i.bootMode, i.id)
}

func (c *call) consoleScreenshot(p *params) (any, *apiError) {
	id := p.required("InstanceId")
	p.boolean("WakeUp")
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	i, err := c.e.instance(id)
	if err != nil {
		return nil, err
	}
	if i.state != "running" {
		return nil, ec2Fault("IncorrectInstanceState", "The instance '%s' is not in the 'running' state.", id)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	return struct {
		ID   string `xml:"instanceId"`
		Data string `xml:"imageData"`
	}{id, screenshot(i.ill)}, nil
}

// screenshot is a small JPEG: black, or blue where the guest is ill.
func screenshot(ill bool) string {
	img := picture.NewRGBA(picture.Rect(0, 0, 64, 48))
	shade := color.RGBA{A: 255}
	if ill {
		shade.B = 160
	}
	for n := range 64 * 48 {
		img.Set(n%64, n/64, shade)
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, img, nil) // a buffer takes it all
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
