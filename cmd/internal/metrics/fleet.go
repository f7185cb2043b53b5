package metrics

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fleet shows what the database knows. One scrape at a time asks it; what it
// said is kept for Config.CacheFor, whether it answered or not.
type fleet struct {
	c Config

	mu    sync.Mutex
	tried time.Time
	at    time.Time // of last
	took  time.Duration
	up    bool
	fails float64
	last  []prometheus.Metric
}

func newFleet(c Config) *fleet { return &fleet{c: c} }

// desc is a metric of the fleet.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("snapferry_"+name, help, labels, nil)
}

var (
	sourceUp      = desc("source_up", "1 when the database answered the last time that the fleet's values were asked for.")
	sourceErrors  = desc("source_errors_total", "How often the fleet's values could not be had.")
	sourceTook    = desc("source_refresh_duration_seconds", "How long the database took to answer for the fleet's values, the last time.")
	sourceUpdated = desc("source_updated_timestamp_seconds", "When the fleet's values were had.")
)

// Describe implements prometheus.Collector.
func (f *fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]*prometheus.Desc{{sourceUp, sourceErrors, sourceTook, sourceUpdated}, vmDescs, workDescs, launchDescs} {
		for _, d := range list {
			ch <- d
		}
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.c.Now()
	if age := now.Sub(f.tried); f.tried.IsZero() || age < 0 || age >= f.c.CacheFor {
		f.refresh(now)
	}
	ch <- gauge(sourceUp, number(f.up))
	ch <- prometheus.MustNewConstMetric(sourceErrors, prometheus.CounterValue, f.fails)
	ch <- gauge(sourceTook, f.took.Seconds())
	if f.at.IsZero() || now.Sub(f.at) > f.c.KeepFor {
		return // better none than old ones
	}
	ch <- gauge(sourceUpdated, seconds(f.at))
	for _, m := range f.last {
		ch <- m
	}
}

func (f *fleet) refresh(now time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), f.c.Patience)
	defer cancel()
	began := time.Now()
	list, err := f.ask(ctx, now)
	f.tried, f.took, f.up = now, time.Since(began), err == nil
	if err != nil {
		f.fails++
		return
	}
	f.at, f.last = now, list
}

// ask reads everything and makes metrics of it.
func (f *fleet) ask(ctx context.Context, now time.Time) ([]prometheus.Metric, error) {
	overview, err := f.c.Source.Overview(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the overview: %w", err)
	}
	vms, err := allVMs(ctx, f.c.Source)
	if err != nil {
		return nil, fmt.Errorf("read the VMs: %w", err)
	}
	runs, err := activeRuns(ctx, f.c.Source)
	if err != nil {
		return nil, fmt.Errorf("read the runs: %w", err)
	}
	alarms, err := f.c.Source.Alarms(ctx, false, maxAlarms)
	if err != nil {
		return nil, fmt.Errorf("read the alarms: %w", err)
	}
	launches, err := f.askLaunches(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the launches: %w", err)
	}
	e := &emitter{}
	centers := launches.vcenters(vcenters(vms, overview.Appliances, runs))
	e.vcenterValues(centers, vms)
	e.eachVM(vms, f.c.PerVM, f.c.MaxVMs)
	e.overview(overview)
	e.work(runs, centers, overview.Appliances, now)
	e.alarms(alarms)
	e.launches(&f.c, centers, launches, now)
	return e.list, nil
}

// emitter gathers metrics.
type emitter struct{ list []prometheus.Metric }

func (e *emitter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	e.list = append(e.list, gauge(d, v, labels...))
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	for i := range labels { // what is not UTF-8 would be a panic
		labels[i] = valid(labels[i])
	}
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// valid is s as a label's value.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds since 1970, as Prometheus has instants.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
