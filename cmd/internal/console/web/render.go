package web

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

//go:embed templates
var sources embed.FS

// pages are the parsed templates: each page's own with the layout and the
// parts that all share.
type pages struct {
	byName map[string]*template.Template
}

func newPages(asset func(string) string) *pages {
	base := template.Must(template.New("base").Funcs(functions(asset)).ParseFS(sources, "templates/layout.html", "templates/parts.html", "templates/dialogs.html", "templates/launchparts.html"))
	p := &pages{byName: map[string]*template.Template{}}
	entries, err := sources.ReadDir("templates")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".html")
		switch name {
		case "layout", "parts", "dialogs", "launchparts":
			continue
		}
		t := template.Must(template.Must(base.Clone()).ParseFS(sources, path.Join("templates", e.Name())))
		p.byName[name] = t
	}
	return p
}

func (p *pages) render(w io.Writer, name string, data any) error {
	t, ok := p.byName[name]
	if !ok {
		return fmt.Errorf("render page %q: there is no such template", name)
	}
	entry := "layout"
	if t.Lookup("whole") != nil {
		entry = "whole"
	}
	return t.ExecuteTemplate(w, entry, data)
}

func functions(asset func(string) string) template.FuncMap {
	return template.FuncMap{
		"asset": asset, "icon": icon, "dict": dict,
		"size": size, "rate": rate, "span": span, "ago": ago, "clock": clock, "second": second, "minute": minute,
		"count": func(n any) string { return count(toInt(n)) },
		"exact": func(d schedule.Duration) string { return exact(d.Std()) }, "took": exact,
		"lasts":  func(d schedule.Duration) string { return span(d.Std()) },
		"blocks": func(n int64) string { return blocks(n) },
		"state":  stateWords, "life": lifeWords, "reason": reasonWords, "runstate": runWords, "step": stepWord, "kind": kindWord, "alarm": alarmWord, "event": eventWord,
		"jobstate": jobWords, "purpose": purposeWord, "launchaction": launchActionWord, "launchstep": launchStepWord, "kindtone": kindTone, "kindlevel": kindLevel, "eventjob": eventJob,
		"jobpath":   func(base, id string) string { return base + jobPath(id) },
		"vmpath":    func(base string, id transfer.VMID) string { return base + vmPath(id) },
		"ratelimit": func(r schedule.Rate) string { return rate(float64(r)) }, "spark": sparkline, "capacity": capacity, "seconds": seconds, "plural": plural, "pathescape": url.PathEscape, "schedule": frequency, "retention": keeps,
	}
}

// capacity is the size of all disks together.
func capacity(disks []transfer.Disk) int64 {
	v := schedule.VM{VM: transfer.VM{Disks: disks}}
	return v.Bytes()
}

// toInt makes templates' integers one type.
func toInt(n any) int64 {
	switch v := n.(type) {
	case int:
		return int64(v)
	case int64:
		return v
	case int32:
		return int64(v)
	}
	return 0
}

// blocks is a number of 512 KiB blocks as bytes; negative is unknown.
func blocks(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return size(n * transfer.BlockSize)
}

// seconds is for machine-readable attributes.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func plural(n any, one, many string) string {
	if toInt(n) == 1 {
		return one
	}
	return many
}

// vmPath is a VM's page below Base. url.PathEscape lets dots pass, which
// browsers would resolve: no vCenter makes such an ID.
func vmPath(id transfer.VMID) string {
	return "/vms/" + url.PathEscape(id.VCenter) + "/" + url.PathEscape(id.Moref)
}

// jobPath is a launch's page below Base.
func jobPath(id string) string { return "/launches/" + url.PathEscape(id) }

// dict is how a template hands several values to another.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict of %d values: they come in pairs", len(pairs))
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict key %v is no string", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}
