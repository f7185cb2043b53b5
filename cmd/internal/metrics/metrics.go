package metrics

import (
	"context"
	"database/sql"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"snapferry/schedule"
)

// Source is what the fleet's values are asked from; *service.Service is one.
type Source interface {
	Overview(ctx context.Context) (schedule.Overview, error)
	VMs(ctx context.Context, q schedule.VMQuery) (schedule.VMPage, error)
	Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error)
	Runs(ctx context.Context, q schedule.RunQuery) ([]schedule.Run, error)
}

// Config is what Metrics are made of.
type Config struct {
	Source Source // nil shows no values of the fleet
	// Launches, when set beside Source, adds the launch runs and the tests and
	// cutovers that are open; Provings when and how VMs were proved last, which
	// *store.DB knows.
	Launches  Launches
	Provings  func(ctx context.Context) ([]schedule.Proving, error)
	Version   string // of this program
	Appliance string // this appliance's ID
	Now       func() time.Time
	// Ready says why the service cannot do its work, nil when it can; nil shows
	// no readiness.
	Ready func() error
	// SQL, when set, adds the statistics of its connections.
	SQL *sql.DB

	// PerVM shows lag, backlog and state of each VM: three series a VM.
	PerVM bool
	// MaxVMs bounds those; of more, the first by name are shown and
	// snapferry_vm_series_dropped says how many are not. 0 is 5,000: at three
	// series each that is what a small Prometheus takes from one target.
	MaxVMs int
	// CacheFor is how long the fleet's values are kept; 0 is 10 s: two
	// Prometheus servers at the usual 15 s ask the database no more often than
	// one browser does.
	CacheFor time.Duration
	// KeepFor is how long values that cannot be renewed are still shown; 0 is two
	// minutes. A database that restarts should not make every alert that waits
	// for its time begin anew.
	KeepFor time.Duration
	// Patience is how long the database may take; 0 is 5 s, half of
	// Prometheus' usual scrape timeout.
	Patience time.Duration
}

const defaultMaxVMs = 5000

func (c *Config) defaults() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxVMs <= 0 {
		c.MaxVMs = defaultMaxVMs
	}
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&c.CacheFor, 10*time.Second)
	set(&c.KeepFor, 2*time.Minute)
	set(&c.Patience, 5*time.Second)
}

// Metrics is what one process shows. Its methods may be called by anybody at
// any time, and on a nil *Metrics, which counts nothing.
type Metrics struct {
	registry *prometheus.Registry
	counters *counters
	runs     *tracker
	routes   *bounded
	hooks    *bounded
}

// New builds them, in a registry of their own. It asks Source for nothing yet.
func New(c Config) *Metrics {
	c.defaults()
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		counters: newCounters(),
		runs:     newTracker(c.Now),
		routes:   newBounded(maxRoutes),
		hooks:    newBounded(maxHooks),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "snapferry_build_info",
		Help:        "Always 1; the labels say what runs here.",
		ConstLabels: prometheus.Labels{"version": c.Version, "appliance": c.Appliance, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.counters,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if c.Ready != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "snapferry_ready", Help: "1 when this appliance can do its work: the database answers, the planner ticks, the inventory is fresh.",
		}, readiness(c)))
	}
	if c.SQL != nil {
		m.registry.MustRegister(collectors.NewDBStatsCollector(c.SQL, "snapferry"))
	}
	if c.Source != nil {
		m.registry.MustRegister(newFleet(c))
	}
	return m
}

// readiness asks Ready, but not more often than the fleet is asked for.
func readiness(c Config) func() float64 {
	// The gauge is collected by one goroutine at a time only while there is one
	// scrape; the lock makes others wait for the first one's answer.
	var last lockedValue
	return func() float64 {
		return last.get(c.Now(), c.CacheFor, func() float64 {
			if c.Ready() != nil {
				return 0
			}
			return 1
		})
	}
}

// Registry is where all of them are registered, to gather them otherwise than
// over HTTP.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// maxScrapes at once: more than a few Prometheus servers is a mistake.
const maxScrapes = 4

// Handler answers a scrape. A collector that fails leaves its metrics out; the
// others are shown all the same.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true,
	})
}
