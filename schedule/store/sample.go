package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Lags are the samples of these VMs since then, oldest first.
func (db *DB) Lags(ctx context.Context, vms []transfer.VMID, since time.Time) (map[transfer.VMID][]schedule.LagSample, error) {
	var of map[transfer.VMID][]schedule.LagSample
	err := db.read(ctx, func(q querier) error {
		of = make(map[transfer.VMID][]schedule.LagSample, len(vms))
		return eachVM(ctx, q, `SELECT vcenter, moref, at_ms, lag_ms FROM lag_sample WHERE at_ms >= $1 AND `, vms, `ORDER BY vcenter, moref, at_ms`, func(scan func(...any) error) error {
			var id transfer.VMID
			var at, lag int64
			err := scan(&id.VCenter, &id.Moref, &at, &lag)
			of[id] = append(of[id], schedule.LagSample{At: instant(at), Lag: schedule.Duration(time.Duration(lag) * time.Millisecond)})
			return err
		}, ms(since))
	})
	if err != nil {
		return nil, fmt.Errorf("read lags: %w", err)
	}
	return of, nil
}

// SaveRate writes what an appliance moved per second.
func (db *DB) SaveRate(ctx context.Context, appliance transfer.ApplianceID, s schedule.RateSample) error {
	err := db.statement(ctx, func(q querier) error {
		_, err := q.exec(ctx, `INSERT INTO rate_sample (at_ms, appliance, read_rate, put_rate) VALUES ($1, $2, $3, $4)
			ON CONFLICT (at_ms, appliance) DO UPDATE SET read_rate = excluded.read_rate, put_rate = excluded.put_rate`, ms(s.At), string(appliance), s.Read, s.Put)
		return err
	})
	if err != nil {
		return fmt.Errorf("save throughput: %w", err)
	}
	return nil
}

// rateStep is the step of Rates: that in which appliances sample.
const rateStep = 10 * time.Second

// applianceRate is a sample of one appliance.
type applianceRate struct {
	appliance string
	schedule.RateSample
}

// Rates are the fleet's samples since then, in steps of ten seconds, oldest
// first; each has the instant at which its step begins.
func (db *DB) Rates(ctx context.Context, since time.Time) ([]schedule.RateSample, error) {
	var all []applianceRate
	err := db.read(ctx, func(q querier) error {
		all = nil
		return each(ctx, q, `SELECT at_ms, appliance, read_rate, put_rate FROM rate_sample WHERE at_ms >= $1 ORDER BY at_ms`, []any{ms(since)}, func(scan func(...any) error) error {
			var s applianceRate
			var at int64
			err := scan(&at, &s.appliance, &s.Read, &s.Put)
			s.At = instant(at)
			all = append(all, s)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read throughput: %w", err)
	}
	return sumRates(all), nil
}

// sumRates adds up the appliances' samples, which are ordered by time. An
// appliance's clock does not tick with the steps: of two samples in one step
// the mean counts, and a step between two others that has none gets the earlier
// one's, lest the sum jumps.
func sumRates(all []applianceRate) []schedule.RateSample {
	type cell struct {
		read, put float64
		n         int
	}
	of := map[string]map[int64]cell{}
	for _, s := range all {
		steps := of[s.appliance]
		if steps == nil {
			steps = map[int64]cell{}
			of[s.appliance] = steps
		}
		step := s.At.UnixMilli() / rateStep.Milliseconds()
		c := steps[step]
		steps[step] = cell{c.read + s.Read, c.put + s.Put, c.n + 1}
	}
	sum := map[int64]schedule.RateSample{}
	for _, steps := range of {
		for step, c := range steps {
			at := []int64{step}
			if _, next := steps[step+1]; !next {
				if _, after := steps[step+2]; after {
					at = append(at, step+1)
				}
			}
			for _, step := range at {
				s := sum[step]
				s.At = instant(step * rateStep.Milliseconds())
				s.Read += c.read / float64(c.n)
				s.Put += c.put / float64(c.n)
				sum[step] = s
			}
		}
	}
	rates := make([]schedule.RateSample, 0, len(sum))
	for _, s := range sum {
		rates = append(rates, s)
	}
	slices.SortFunc(rates, func(a, b schedule.RateSample) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return rates
}
