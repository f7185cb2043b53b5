package web

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
)

// sparkWidth and sparkHeight are the list's sparkline in CSS pixels: the width
// of its column, and a line of text high.
const (
	sparkWidth  = 72
	sparkHeight = 20
)

// sparkline draws how old a VM's data was over the last day; a drop is a cycle
// that ended. It is a picture only: the number stands beside it.
func sparkline(lags []schedule.LagSample) template.HTML {
	if len(lags) < 2 {
		return `<svg class="spark" viewBox="0 0 72 20" width="72" height="20" aria-hidden="true"></svg>`
	}
	first, last := lags[0].At, lags[len(lags)-1].At
	wide := max(last.Sub(first).Seconds(), 1)
	top := schedule.Duration(1)
	for _, l := range lags {
		top = max(top, l.Lag)
	}
	var d strings.Builder
	for i, l := range lags {
		x := l.At.Sub(first).Seconds()/wide*(sparkWidth-2) + 1
		y := sparkHeight - 2 - float64(l.Lag)/float64(top)*(sparkHeight-4)
		fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
	}
	line := d.String()
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d %d" width="%d" height="%d" aria-hidden="true"><path class="area" d="%sL%d %dL1 %dz"/><path class="line" d="%s"/></svg>`,
		sparkWidth, sparkHeight, sparkWidth, sparkHeight, line, sparkWidth-1, sparkHeight, sparkHeight, line))
}

// lineChart is the throughput of the last hour in a box of 1000 by 100 that is
// stretched to its place; its labels are HTML around it.
type lineChart struct {
	Read, ReadArea, Put string    // SVG paths
	Top                 float64   // the axis' end, bytes a second
	From, Middle, To    time.Time // the time axis
	Empty               bool
	PeakRead, PeakPut   float64
}

// gap: between samples further apart than this the line is broken: no
// appliance was there to tell. Samples come every ten seconds.
const gap = 90 * time.Second

func newLineChart(samples []schedule.RateSample, now time.Time) lineChart {
	c := lineChart{From: now.Add(-time.Hour), Middle: now.Add(-30 * time.Minute), To: now}
	samples = slices.DeleteFunc(slices.Clone(samples), func(s schedule.RateSample) bool { return s.At.Before(c.From) || s.At.After(now) })
	for _, s := range samples {
		c.PeakRead, c.PeakPut = max(c.PeakRead, s.Read), max(c.PeakPut, s.Put)
	}
	peak := max(c.PeakRead, c.PeakPut)
	c.Top = roundUp(peak)
	c.Empty = len(samples) < 2 || peak == 0
	if c.Empty {
		return c
	}
	var read, area, put strings.Builder
	for start := 0; start < len(samples); {
		end := start + 1
		for end < len(samples) && samples[end].At.Sub(samples[end-1].At) <= gap {
			end++
		}
		c.segment(&read, &area, &put, samples[start:end])
		start = end
	}
	c.Read, c.ReadArea, c.Put = read.String(), area.String(), put.String()
	return c
}

func (c *lineChart) segment(read, area, put *strings.Builder, samples []schedule.RateSample) {
	x := func(s schedule.RateSample) float64 { return s.At.Sub(c.From).Seconds() / 3600 * 1000 }
	y := func(v float64) float64 { return 100 - v/c.Top*100 }
	fmt.Fprintf(area, "M%.1f 100", x(samples[0]))
	for i, s := range samples {
		fmt.Fprintf(read, "%c%.1f %.1f", "ML"[min(i, 1)], x(s), y(s.Read))
		fmt.Fprintf(area, "L%.1f %.1f", x(s), y(s.Read))
		fmt.Fprintf(put, "%c%.1f %.1f", "ML"[min(i, 1)], x(s), y(s.Put))
	}
	fmt.Fprintf(area, "L%.1f 100z", x(samples[len(samples)-1]))
}

// roundUp is the next of 1, 2, 2.5, 5 times a power of ten: an axis that ends
// on a number people can halve.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 2.5, 5} {
		if v <= f*base {
			return f * base
		}
	}
	return 10 * base
}

// shareBar is how a whole divides, in a box of 1000 by 10.
type shareBar struct {
	Word  word
	X, W  float64
	Count int
}

func newShareBar(total int, counts map[schedule.Replication]int) []shareBar {
	var bars []shareBar
	x := 0.0
	for _, state := range stateOrder {
		n := counts[state]
		if n == 0 || total <= 0 {
			continue
		}
		w := float64(n) / float64(total) * 1000
		bars = append(bars, shareBar{stateWords(state), x, w, n})
		x += w
	}
	return bars
}
