// Package metrics shows the service to Prometheus.
//
//	metrics.go   what a process shows: registry and handler
//	fleet.go     the fleet as the database knows it: asked for at a scrape, kept for seconds
//	vms.go       VMs by vCenter, and one by one
//	work.go      runs, appliances, alarms
//	launches.go  tests, cutovers, proofs
//	counters.go  what this appliance counts itself
//	observe.go   how it is told: from the engine's store, the clients, the server
//	tracker.go   cumulative reports as increments
//
// Two kinds of value stand side by side. Those about the fleet come from the
// database and are the same from every appliance: add them up with max, never
// with sum. Those that an appliance counts itself (…_total and the histograms of
// cycles and requests) are its own: add them up with sum.
//
// The wiring tells what happens by standing before the engine's store: DueVMs
// is called once a tick, Tell while a cycle runs, Finish when it ends.
//
//	func (s counted) DueVMs(ctx context.Context, at time.Time) ([]schedule.VM, error) {
//		s.m.ObserveTick(at)
//		return s.Store.DueVMs(ctx, at)
//	}
//
//	func (s counted) Tell(ctx context.Context, run, epoch int64, r transfer.Report, steps []schedule.StepTime) (bool, error) {
//		s.m.ObserveProgress(run, r)
//		return s.Store.Tell(ctx, run, epoch, r, steps)
//	}
//
//	func (s counted) Finish(ctx context.Context, run, epoch int64, end schedule.End) error {
//		err := s.Store.Finish(ctx, run, epoch, end)
//		if err == nil {
//			s.m.ObserveEnd(run, end)
//		}
//		return err
//	}
//
// How launch runs end it is told likewise, once FinishLaunch has written it
// down: ObserveLaunchEnd(run, job), with what LaunchRun and LaunchJob then say.
//
// Labels are bounded: there is none with a run, a cycle or an error's text.
// docs/observability.md lists every metric, and a test holds it to that.
package metrics
