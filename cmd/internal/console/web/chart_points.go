package web

import (
	"cmp"
	"math"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// The chart of recovery points, in CSS pixels: a column each, oldest first, so
// that a point can be told by eye and touched by a finger. It does not stretch;
// where there is no room it scrolls.
const (
	pointsHeight = 148
	pointsPlot   = 104 // of it, above the labels
	pointsTop    = 20  // of that, room for marks
	columnMin    = 48
	columnMax    = 96
	pointsWide   = 1080 // as wide as the panel gives on a desk
	mostPoints   = 40   // as many as retention keeps in any sane policy
)

// pointsChart is the columns and the lines behind them. The heights are
// logarithmic: a delta is a thousandth of a seed and must still be seen.
type pointsChart struct {
	Width, Height, Base int
	Columns             []pointColumn
	Lines               []pointLine
	Left                int // older points that are not drawn
}

type pointColumn struct {
	X, Y, W, H, Mid float64
	Point           schedule.PointRow
	Bytes           int64
	Day             bool // the first of its day: its date is written below
}

type pointLine struct {
	Y     float64
	Bytes int64
}

// Scale of the chart: from 1 MiB, less than which no disk's delta is, to the
// largest point, in powers of 32.
const (
	scaleFrom = 1 << 20
	scaleStep = 32
)

func newPointsChart(points []schedule.PointRow) pointsChart {
	c := pointsChart{Height: pointsHeight, Base: pointsPlot}
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b schedule.PointRow) int {
		return cmp.Or(a.Frozen.Compare(b.Frozen), cmp.Compare(a.Cycle, b.Cycle))
	})
	if len(points) > mostPoints {
		c.Left = len(points) - mostPoints
		points = points[c.Left:]
	}
	if len(points) == 0 {
		return c
	}
	var largest int64 = scaleFrom * scaleStep
	for _, p := range points {
		largest = max(largest, p.Blocks*transfer.BlockSize)
	}
	levels := math.Ceil(math.Log(float64(largest)/scaleFrom) / math.Log(scaleStep))
	height := func(n int64) float64 {
		if n <= scaleFrom {
			return 3 // it is there
		}
		return max(3, math.Log(float64(n)/scaleFrom)/math.Log(scaleStep)/levels*(pointsPlot-pointsTop))
	}
	for i, size := 0.0, int64(scaleFrom); i <= levels; i, size = i+1, size*scaleStep {
		c.Lines = append(c.Lines, pointLine{pointsPlot - i/levels*(pointsPlot-pointsTop), size})
	}
	column := math.Floor(min(columnMax, max(columnMin, float64(pointsWide/len(points)))))
	c.Width = axisWidth + int(column)*len(points)
	var day time.Time
	for i, p := range points {
		n := max(p.Blocks, 0) * transfer.BlockSize
		h := height(n)
		d := p.Frozen.UTC().Truncate(24 * time.Hour)
		x := axisWidth + float64(i)*column
		c.Columns = append(c.Columns, pointColumn{X: x + column*0.2, Y: pointsPlot - h, W: column * 0.6, H: h, Mid: x + column/2, Point: p, Bytes: n, Day: !d.Equal(day)})
		day = d
	}
	return c
}

// axisWidth is room for "32 GiB" at the left.
const axisWidth = 56

// gantt is the steps of a run as bars in a box of 1000 by 10 each.
type ganttRow struct {
	Step    transfer.Step
	X, W    float64
	Took    time.Duration
	Running bool
	Waiting bool // the time before the first step: in the queue
}

// newGantt reckons a step's end from the next one's beginning: steps follow
// each other, and what runs beside them (release) is shown where it began.
func newGantt(r schedule.Run, now time.Time) []ganttRow {
	end := r.Ended
	if end.IsZero() {
		end = now
	}
	begin := r.Queued
	if begin.IsZero() {
		begin = r.Started
	}
	whole := end.Sub(begin)
	if begin.IsZero() || whole <= 0 {
		return nil
	}
	bar := func(from, to time.Time) (x, w float64) {
		x = from.Sub(begin).Seconds() / whole.Seconds() * 1000
		return min(max(x, 0), 997), max(to.Sub(from).Seconds()/whole.Seconds()*1000, 3) // 3: visible at all
	}
	started := r.Started
	if started.IsZero() {
		started = end
	}
	rows := []ganttRow{{Waiting: true, Took: started.Sub(begin), Running: r.Started.IsZero() && r.Ended.IsZero()}}
	rows[0].X, rows[0].W = bar(begin, started)
	for i, s := range r.Steps {
		if s.Step == transfer.StepDone {
			continue
		}
		until := end
		if i+1 < len(r.Steps) {
			until = r.Steps[i+1].Began
		}
		row := ganttRow{Step: s.Step, Took: until.Sub(s.Began), Running: i+1 == len(r.Steps) && r.Ended.IsZero()}
		row.X, row.W = bar(s.Began, until)
		rows = append(rows, row)
	}
	return rows
}
