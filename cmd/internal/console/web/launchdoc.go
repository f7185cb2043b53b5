package web

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"snapferry/schedule"
)

// launchDoc is what is shown of a launch's document; package launch has all of
// it (launch.Job).
type launchDoc struct {
	Records    []launchRecord `json:"records"`
	Conversion *struct {
		Ready   bool     `json:"ready"`
		Changes []string `json:"changes"`
		Doubts  []string `json:"doubts"`
	} `json:"conversion"`
	Type     string          `json:"type"`
	TypeWhy  string          `json:"typeWhy"`
	Without  []string        `json:"without"`
	Image    string          `json:"image"`
	PublicIP string          `json:"publicIP"`
	Checks   []launchCheck   `json:"checks"`
	Console  string          `json:"console"`
	Screen   []byte          `json:"screenshot"` // JPEG
	Notes    []string        `json:"notes"`
	Left     []launchLeft    `json:"left"`
	Downtime *launchDowntime `json:"downtime"`
	Events   []launchEvent   `json:"events"`
}

type launchRecord struct {
	Step    string    `json:"step"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"` // zero: not yet, or it failed
	Tries   int       `json:"tries"`
}

type launchCheck struct {
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`
	OK       bool          `json:"ok"`
	Attempts int           `json:"attempts"`
	Text     string        `json:"text"`
	Output   string        `json:"output"`
	Took     time.Duration `json:"tookNs"`
}

type launchLeft struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	State string `json:"state"`
	GiB   int64  `json:"gib"`
	Type  string `json:"type"`
}

type launchDowntime struct {
	From     time.Time     `json:"from"`
	Launched time.Time     `json:"launched"`
	Until    time.Time     `json:"until"`
	ToLaunch time.Duration `json:"toLaunchNs"`
	Total    time.Duration `json:"totalNs"`
	Steps    []struct {
		Step string        `json:"step"`
		Took time.Duration `json:"tookNs"`
	} `json:"steps"`
}

type launchEvent struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Step string    `json:"step"`
	Text string    `json:"text"`
}

// Bounds of what one page shows. A document comes from the database, but what
// is in it was said by guests, AWS and vCenter.
const (
	mostItems  = 400      // of each list; launch keeps as many events
	mostLine   = 1000     // runes of a line
	mostOutput = 64 << 10 // bytes of a console's output: EC2 keeps as much
	mostScreen = 4 << 20  // bytes of a screenshot: EC2's are a tenth of that
)

// readLaunchDoc decodes a document; ok is false for one that cannot be read,
// of which there is then as much as could be.
func readLaunchDoc(raw json.RawMessage) (d launchDoc, ok bool) {
	if len(raw) > 0 {
		ok = json.Unmarshal(raw, &d) == nil
	}
	d.Records, d.Checks, d.Left = first(d.Records), first(d.Checks), first(d.Left)
	for i := range d.Records {
		line(&d.Records[i].Step)
	}
	for i := range d.Checks {
		c := &d.Checks[i]
		line(&c.Name, &c.Kind, &c.Text)
		c.Output = lastBytes(c.Output, mostOutput)
	}
	for i := range d.Left {
		l := &d.Left[i]
		line(&l.Kind, &l.ID, &l.State, &l.Type)
	}
	d.Events = d.Events[max(len(d.Events)-mostItems, 0):]
	for i := range d.Events {
		e := &d.Events[i]
		line(&e.Kind, &e.Step, &e.Text)
	}
	if d.Downtime != nil {
		d.Downtime.Steps = first(d.Downtime.Steps)
		for i := range d.Downtime.Steps {
			line(&d.Downtime.Steps[i].Step)
		}
	}
	if c := d.Conversion; c != nil {
		c.Changes, c.Doubts = lines(c.Changes), lines(c.Doubts)
	}
	d.Notes, d.Without = lines(d.Notes), lines(d.Without)
	line(&d.Type, &d.TypeWhy, &d.Image, &d.PublicIP)
	d.Console = lastBytes(d.Console, mostOutput)
	if len(d.Screen) > mostScreen || !strings.HasPrefix(string(d.Screen), "\xff\xd8\xff") {
		d.Screen = nil
	}
	return d, ok
}

func first[T any](list []T) []T { return list[:min(len(list), mostItems)] }

func lines(list []string) []string {
	list = slices.Clone(first(list))
	for i := range list {
		line(&list[i])
	}
	return list
}

// line makes each of these texts one line of a bounded length.
func line(texts ...*string) {
	for _, t := range texts {
		*t = clip(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, *t), mostLine)
	}
}

// clip keeps the first n runes.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	seen := 0
	for i := range text {
		if seen == n {
			return text[:i] + "…"
		}
		seen++
	}
	return text
}

// terminal finds what moves a cursor or colours letters (ECMA-48's CSI and OSC).
var terminal = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])`)

// lastBytes is the end of an output, in whole lines, without what only
// terminals understand.
func lastBytes(text string, n int) string {
	if cut := len(text) - n; cut > 0 {
		text = text[cut:]
		if i := strings.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	text = terminal.ReplaceAllString(strings.ToValidUTF8(text, "\ufffd"), "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}

// launchRow is a step of a launch with its bar, in a box of 1000 by 10.
type launchRow struct {
	launchRecord
	X, W            float64
	Took            time.Duration
	Running, Failed bool
}

// longPause between two steps is drawn as shortPause: a cutover that is
// finalized a week later would else be a line.
const (
	longPause  = 2 * time.Minute
	shortPause = 15 * time.Second
)

// launchRows are the steps against time, the first at the left. What did not
// end runs while somebody works on the job, else it failed.
func launchRows(d launchDoc, active bool, now time.Time) []launchRow {
	rows := make([]launchRow, 0, len(d.Records))
	var x []time.Duration // where each begins, without the long pauses
	var last time.Time    // until when all before went on
	var whole time.Duration
	for i, r := range d.Records {
		until := r.Ended
		if until.IsZero() && active {
			until = now
		} else if until.IsZero() {
			until = lastSign(d, r)
		}
		row := launchRow{launchRecord: r, Took: max(until.Sub(r.Started), 0), Running: r.Ended.IsZero() && active, Failed: r.Ended.IsZero() && !active}
		at := whole
		if i > 0 {
			if pause := r.Started.Sub(last); pause > longPause {
				at += shortPause
			} else {
				at = max(at+pause, 0) // a step that was repeated began before the one above it ended
			}
		}
		x, rows = append(x, at), append(rows, row)
		if i == 0 || until.After(last) {
			last, whole = until, at+row.Took
		}
	}
	scale := 1000 / max(whole, time.Second).Seconds()
	for i := range rows {
		rows[i].X, rows[i].W = min(max(x[i].Seconds()*scale, 0), 997), max(rows[i].Took.Seconds()*scale, 3) // 3: visible at all
	}
	return rows
}

// lastSign is when a step that failed was last heard of.
func lastSign(d launchDoc, r launchRecord) time.Time {
	at := r.Started
	for _, e := range d.Events {
		if e.Step == r.Step && e.At.After(at) {
			at = e.At
		}
	}
	return at
}

// downtimeOf is what a list and a page say of a cutover's: what the job knows,
// else the document.
func downtimeOf(j schedule.LaunchJob, d launchDoc) (toLaunch, total time.Duration) {
	toLaunch, total = j.ToLaunch.Std(), j.Downtime.Std()
	if d.Downtime != nil {
		if toLaunch == 0 {
			toLaunch = d.Downtime.ToLaunch
		}
		if total == 0 {
			total = d.Downtime.Total
		}
	}
	return toLaunch, total
}
