package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of labels that come from outside. The API has some 40 routes and the
// pages a few more; nobody has 50 webhooks or certificates.
const (
	maxRoutes = 200
	maxHooks  = 50
	maxExpiry = 50
)

// Buckets in seconds.
var (
	// cycleBuckets: from a cycle in which nothing changed to a seed that takes
	// two days.
	cycleBuckets = []float64{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 86400, 2 * 86400}
	// stepBuckets: a freeze takes seconds, a release minutes where a redo log
	// has grown, and EC2 half an hour at the worst to complete a snapshot.
	stepBuckets = []float64{0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600}
	// launchBuckets: from an end that finds nothing left to a cutover whose last
	// delta takes hours, close together where people count downtime.
	launchBuckets = []float64{10, 30, 60, 120, 180, 300, 450, 600, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600}
	// callBuckets: a put takes 20 ms inside AWS and is given up after 20 s.
	callBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20}
)

// counters is what this process counts itself.
type counters struct {
	list []prometheus.Collector

	cycles, failures         *prometheus.CounterVec
	took                     *prometheus.HistogramVec
	freeze, release          prometheus.Histogram
	seal, frozen             prometheus.Histogram
	read, put                prometheus.Counter
	blocks                   *prometheus.CounterVec
	audited, lost            prometheus.Counter
	calls, retries, throttle *prometheus.CounterVec
	callTook                 *prometheus.HistogramVec
	putLimit                 prometheus.Gauge
	deliveries               *prometheus.CounterVec
	hookFailing              *prometheus.GaugeVec
	requests                 *prometheus.CounterVec
	requestTook              *prometheus.HistogramVec
	launches                 *prometheus.CounterVec
	launchTook               *prometheus.HistogramVec
	downtime, toLaunch       prometheus.Histogram

	mu     sync.Mutex
	tick   time.Time
	expiry map[expiryKey]time.Time
}

type expiryKey struct {
	kind ExpiryKind
	name string
}

var (
	plannerTick = desc("planner_tick_timestamp_seconds", "When this appliance's planner looked last for VMs that are due.")
	certExpiry  = desc("certificate_expiry_timestamp_seconds", "When a certificate ends.", "name")
	credExpiry  = desc("credentials_expiry_timestamp_seconds", "When credentials that do not renew themselves end.", "name")
)

func newCounters() *counters {
	c := &counters{expiry: map[expiryKey]time.Time{}}
	c.cycleMetrics()
	c.serviceMetrics()
	c.launchMetrics()
	for _, kind := range planKinds {
		for _, o := range outcomes {
			c.cycles.WithLabelValues(kind, o)
		}
	}
	for _, r := range reasons {
		c.failures.WithLabelValues(string(r))
	}
	for _, b := range blockResults {
		c.blocks.WithLabelValues(b)
	}
	return c
}

func (c *counters) cycleMetrics() {
	c.cycles = c.counterVec("cycles_total", "Cycles that ended on this appliance, by the heaviest kind among their disks and by outcome.", "kind", "outcome")
	c.failures = c.counterVec("cycle_failures_total", "Cycles that failed on this appliance, by reason.", "reason")
	c.took = c.histogramVec("cycle_duration_seconds", "How long cycles took that made or confirmed a point, by kind.", cycleBuckets, "kind")
	c.freeze = c.histogram("freeze_duration_seconds", "How long it took to make the VM snapshot.", stepBuckets)
	c.release = c.histogram("release_duration_seconds", "How long it took to remove the VM snapshot.", stepBuckets)
	c.seal = c.histogram("seal_duration_seconds", "How long EC2 took to call a point's snapshots completed.", stepBuckets)
	c.frozen = c.histogram("frozen_duration_seconds", "How long VM snapshots existed.", cycleBuckets)
	c.read = c.counter("read_bytes_total", "Bytes read from frozen disks.")
	c.put = c.counter("put_bytes_total", "Bytes of blocks put to AWS.")
	c.blocks = c.counterVec("blocks_total", "Blocks looked at: put; identical, AWS has them; zero, left absent; resumed, a draft held them already.", "result")
	c.audited = c.counter("audit_blocks_total", "Blocks that were read though change tracking called them unchanged.")
	c.lost = c.counter("audit_mismatches_total", "Blocks of those that had changed all the same: change tracking lost them.")
}

func (c *counters) serviceMetrics() {
	c.calls = c.counterVec("api_requests_total", "Attempts of requests to vCenter and AWS, by class of operation.", "service", "operation", "result")
	c.callTook = c.histogramVec("api_request_duration_seconds", "How long attempts of requests took.", callBuckets, "service", "operation")
	c.retries = c.counterVec("api_retries_total", "Attempts that repeated one that failed.", "service")
	c.throttle = c.counterVec("api_throttles_total", "Attempts that the service refused since there were too many.", "service")
	c.putLimit = prometheus.NewGauge(prometheus.GaugeOpts{Name: "snapferry_puts_per_second_limit", Help: "Puts a second that this appliance allows itself: its share of the account's quota; 0 is not known yet."})
	c.list = append(c.list, c.putLimit)
	c.deliveries = c.counterVec("webhook_deliveries_total", "Attempts to deliver events: delivered, retried (to be tried again), given-up (never delivered).", "hook", "result")
	c.hookFailing = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "snapferry_webhook_failing", Help: "1 when the last attempt to deliver an event failed."}, []string{"hook"})
	c.list = append(c.list, c.hookFailing)
	c.requests = c.counterVec("http_requests_total", "Requests that this appliance answered.", "route", "method", "code")
	c.requestTook = c.histogramVec("http_request_duration_seconds", "How long it took to answer; streams are left out.", prometheus.DefBuckets, "route")
}

func (c *counters) counter(name, help string) prometheus.Counter {
	v := prometheus.NewCounter(prometheus.CounterOpts{Name: "snapferry_" + name, Help: help})
	c.list = append(c.list, v)
	return v
}

func (c *counters) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "snapferry_" + name, Help: help}, labels)
	c.list = append(c.list, v)
	return v
}

func (c *counters) histogram(name, help string, buckets []float64) prometheus.Histogram {
	v := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "snapferry_" + name, Help: help, Buckets: buckets})
	c.list = append(c.list, v)
	return v
}

func (c *counters) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "snapferry_" + name, Help: help, Buckets: buckets}, labels)
	c.list = append(c.list, v)
	return v
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(ch chan<- *prometheus.Desc) {
	for _, l := range c.list {
		l.Describe(ch)
	}
	ch <- plannerTick
	ch <- certExpiry
	ch <- credExpiry
}

// Collect implements prometheus.Collector. Instants that nobody told are
// absent: as zeros they would be alarms.
func (c *counters) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.list {
		l.Collect(ch)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tick.IsZero() {
		ch <- gauge(plannerTick, seconds(c.tick))
	}
	for key, at := range c.expiry {
		d := certExpiry
		if key.kind == Credentials {
			d = credExpiry
		}
		ch <- gauge(d, seconds(at), key.name)
	}
}
