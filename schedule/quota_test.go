package schedule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

func TestQuotaOf(t *testing.T) {
	for name, x := range map[string]struct {
		p    Policy
		want int // points
	}{
		"default":              {Policy{Every: Duration(time.Minute)}, 14},
		"days":                 {Policy{Every: Duration(15 * time.Minute), Retention: transfer.Policy{Days: 7}}, 672},
		"last within days":     {Policy{Every: Duration(15 * time.Minute), Retention: transfer.Policy{Days: 7, Last: 10}}, 672},
		"last beyond days":     {Policy{Every: Duration(12 * time.Hour), Retention: transfer.Policy{Days: 2, Last: 10}}, 10},
		"daily beyond days":    {Policy{Every: Duration(time.Hour), Retention: transfer.Policy{Days: 2, Daily: 30, Weekly: 8, Monthly: 12}}, 48 + 28 + 8 + 12},
		"uneven":               {Policy{Every: Duration(7 * time.Hour), Retention: transfer.Policy{Days: 1}}, 4},
		"adaptive by floor":    {Policy{Adaptive: &Adaptive{Duration(30 * time.Minute), Duration(day)}, Retention: transfer.Policy{Days: 1}}, 48},
		"cron":                 {Policy{Cron: "0 2,14 * * *", Retention: transfer.Policy{Days: 10}}, 20},
		"cron, weekdays":       {Policy{Cron: "0 2 * * mon-fri", Retention: transfer.Policy{Days: 7}}, 5},
		"cron, the best week":  {Policy{Cron: "0 2 * * mon-fri", Retention: transfer.Policy{Days: 5}}, 5},
		"cron, monthly":        {Policy{Cron: "*/30 * 1 * *", Retention: transfer.Policy{Days: 40}}, 96},
		"cron, leap":           {Policy{Cron: "0 0 29 2 *", Retention: transfer.Policy{Days: 1000}}, 1},
		"cron, all the time":   {Policy{Cron: "* * * * *", Retention: transfer.Policy{Days: 30}}, 43_200},
		"cron, for ten years":  {Policy{Cron: "0 0 * * *", Retention: transfer.Policy{Days: 3650}}, 3650},
		"cron, years of leaps": {Policy{Cron: "0 0 29 2 *", Retention: transfer.Policy{Days: 8 * 1461}}, 8},
	} {
		x.p.Name = "p"
		n, err := QuotaOf(&x.p, 2, 1<<40)
		if n != 2*x.want || err != nil {
			t.Errorf("%s: %d, %v, want %d", name, n, err, 2*x.want)
		}
	}
}

func TestQuota(t *testing.T) {
	vms := func(n, disks int, policy string) (all []VM) {
		for i := range n {
			vm := VM{Policy: policy, VM: transfer.VM{Name: fmt.Sprint("vm", i)}}
			for d := range disks {
				vm.Disks = append(vm.Disks, transfer.Disk{ID: transfer.DiskID{Key: int32(2000 + d)}, Label: fmt.Sprintf("Hard disk %d", d+1)})
			}
			all = append(all, vm)
		}
		return all
	}
	week := Policy{Name: "week", Every: Duration(time.Hour), Retention: transfer.Policy{Days: 7}} // 168
	wide := Policy{Name: "wide", Every: Duration(time.Hour)}                                      // 14
	mad := Policy{Name: "mad", Every: Duration(time.Minute), Retention: transfer.Policy{Days: 100}}
	less := week
	less.Exclude = []string{"Hard disk 2"}
	gone := vms(300, 2, "week")
	for i := range gone {
		gone[i].Gone = true
	}
	for name, x := range map[string]struct {
		ps   []Policy
		vms  []VM
		have int
		want []string
	}{
		"fits":       {[]Policy{week, wide}, append(vms(200, 2, "week"), vms(1000, 2, "wide")...), 0, nil},
		"one":        {[]Policy{week}, vms(300, 2, "week"), 0, []string{"policy week keeps 168 points (168 in 7 days) of 600 disks: 168 × 600 = 100800 snapshots", "100000"}},
		"together":   {[]Policy{week, wide}, append(vms(290, 2, "week"), vms(100, 2, "wide")...), 0, []string{"100240 snapshots", "week 168 × 580 = 97440, wide 14 × 200 = 2800"}},
		"others":     {[]Policy{week}, vms(200, 2, "week"), 40_000, []string{"107200", "others 40000"}},
		"mad":        {[]Policy{week, mad}, nil, 0, []string{"policy mad", "144000 points", "1 disk"}},
		"excluded":   {[]Policy{less}, vms(300, 2, "week"), 0, nil},
		"gone":       {[]Policy{week}, gone, 0, nil},
		"unassigned": {[]Policy{week}, vms(3000, 2, ""), 0, nil},
	} {
		err := Quota(x.ps, x.vms, x.have)
		if (err != nil) != (x.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range x.want {
			if err != nil && (!strings.Contains(err.Error(), w) || !errors.Is(err, ErrInvalid)) {
				t.Errorf("%s: %v: want %q in it", name, err, w)
			}
		}
	}
}
