package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/nbd"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
)

const mib = 1 << 20

// serve serves the live disks of l until the test ends and returns the socket.
func serve(t testing.TB, l *lab.Lab) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.ServeNBD(ctx, socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return socket
}

// dial connects to an export as soon as the socket is there.
func dial(t testing.TB, socket, export string) *nbd.Client {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := nbd.Dial(context.Background(), "unix", socket, export, nbd.Options{Contexts: []string{nbd.ContextAllocation}})
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// load is a guest that reads and writes 4 KiB at random places, so many at once.
type load struct {
	stop    atomic.Bool
	left    int64 // requests, after which it stops by itself; 0: never
	all     sync.WaitGroup
	done    atomic.Int64 // requests
	longest atomic.Int64 // ns
	failed  atomic.Pointer[error]
}

func (l *load) run(disks []*nbd.Client, depth int) {
	for i := range depth {
		l.all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			buf := make([]byte, 4096)
			for n := 0; !l.stop.Load() && (l.left == 0 || l.done.Load() < l.left); n++ {
				d := disks[(i+n)%len(disks)]
				off, began := rng.Int64N(d.Size()/4096)*4096, time.Now()
				var err error
				if n%2 == 0 {
					_, err = d.WriteAt(buf, off)
				} else if _, err = d.ReadAt(buf, off); err == io.EOF {
					err = nil
				}
				if err != nil {
					l.failed.Store(&err)
					return
				}
				l.done.Add(1)
				took := int64(time.Since(began))
				for old := l.longest.Load(); took > old && !l.longest.CompareAndSwap(old, took); old = l.longest.Load() {
				}
			}
		})
	}
}

// end stops the load and fails the test if a request failed.
func (l *load) end(t testing.TB) {
	t.Helper()
	l.stop.Store(true)
	l.all.Wait()
	if err := l.failed.Load(); err != nil {
		t.Error(*err)
	}
}

// TestAGuestGoesOnBesideSnapshots: while a snapshot is made, copied and merged
// the guest's requests go on being answered.
func TestAGuestGoesOnBesideSnapshots(t *testing.T) {
	l, err := lab.Start(lab.Options{Dir: t.TempDir(), KeepFrozen: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	vm, err := l.AddVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: 64 * mib}, {Size: 32 * mib}}})
	if err != nil {
		t.Fatal(err)
	}
	socket := serve(t, l)
	disks := []*nbd.Client{dial(t, socket, "app01/0"), dial(t, socket, "app01/1")}
	fill := func() {
		for _, d := range disks {
			for off := int64(0); off < d.Size(); off += mib {
				if _, err := d.WriteAt(make([]byte, mib), off); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fill()
	for round := range 2 {
		var guest load
		step := func(what string, do func() error) {
			t.Helper()
			guest.longest.Store(0)
			began, before := time.Now(), guest.done.Load()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			took, n := time.Since(began), guest.done.Load()-before
			t.Logf("%s: %v, %d requests meanwhile, the longest %v", what, took.Round(time.Microsecond), n, time.Duration(guest.longest.Load()).Round(time.Microsecond))
			if took > 20*time.Millisecond && n < 20 {
				t.Errorf("%s took %v, in which %d requests of the guest were answered", what, took, n)
			}
		}
		guest.run(disks, 8)
		var snapshot string
		step("create", func() (err error) { snapshot, err = vm.TakeSnapshot(fmt.Sprintf("%s%d", lab.Mark, round)); return err })
		fill()
		step("remove", func() error { return vm.RemoveSnapshot(snapshot) })
		guest.end(t)
	}
	s, _ := l.VCenter.State().VM("app01")
	if s.ConsolidationNeeded || len(s.Files) != 4 {
		t.Errorf("consolidation needed: %v, files %v", s.ConsolidationNeeded, s.Files)
	}
}

// TestWhatAGuestCanAskOfItsDisk: flush, FUA, zeroes, trim, extents, all of which
// the VM's change tracking and snapshots see.
func TestWhatAGuestCanAskOfItsDisk(t *testing.T) {
	l := start(t)
	vm, err := l.AddVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: 4 * mib}}})
	if err != nil {
		t.Fatal(err)
	}
	socket, ctx := serve(t, l), t.Context()
	c, other := dial(t, socket, "app01/0"), dial(t, socket, "app01/0")
	if i := c.Info(); !i.CanFlush || !i.CanFUA || !i.CanTrim || !i.CanWriteZeroes || !i.CanMultiConn || i.ReadOnly {
		t.Errorf("offered: %+v", i)
	}
	want := make([]byte, 4*mib)
	for i := range want {
		want[i] = byte(i%251) | 1
	}
	check := func(what string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := other.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the other connection reads something else, %v", what, err)
		}
	}
	if _, err := c.WriteFUA(ctx, want, 0); err != nil {
		t.Fatal(err)
	}
	check("write through")
	snapshot, err := vm.TakeSnapshot("s")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.WriteZeroes(ctx, mib, mib), c.Trim(ctx, 2*mib, mib), c.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	clear(want[mib : 3*mib])
	check("zeroes and trim")
	frozen, _, err := l.VCenter.Frozen(snapshot, vm.Disks()[0].Key())
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := frozen.ReadAt(one, 2*mib); err != nil || one[0] == 0 {
		t.Errorf("trim has changed the snapshot: %v, %v", one, err)
	}
	if err := vm.RemoveSnapshot(snapshot); err != nil {
		t.Fatal(err)
	}
	check("merge")
	if err := c.Trim(ctx, 0, mib); err != nil {
		t.Fatal(err)
	}
	list, err := c.BlockStatus(ctx, nbd.ContextAllocation, 0, 4*mib)
	if err != nil || len(list) != 2 || list[0].Length != mib || list[0].Flags != nbd.StateHole|nbd.StateZero || list[1].Flags != 0 {
		t.Errorf("extents %v, %v", list, err)
	}
}

// BenchmarkLiveDisk is a guest's 4 KiB at random places over the socket, eight
// requests at once, half of them writes.
func BenchmarkLiveDisk(b *testing.B) {
	l, err := lab.Start(lab.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.Close)
	vm, err := l.AddVM(vcenter.VMSpec{Name: "app01", CBT: true, Disks: []vcenter.DiskSpec{{Size: 256 * mib}}})
	if err != nil {
		b.Fatal(err)
	}
	disks := []*nbd.Client{dial(b, serve(b, l), "app01/0")}
	for _, frozen := range []bool{false, true} {
		b.Run(fmt.Sprintf("frozen=%v", frozen), func(b *testing.B) {
			if frozen {
				snapshot, err := vm.TakeSnapshot("s")
				if err != nil {
					b.Fatal(err)
				}
				defer func() {
					if err := vm.RemoveSnapshot(snapshot); err != nil {
						b.Error(err)
					}
				}()
			}
			b.SetBytes(4096)
			guest := load{left: int64(b.N)}
			guest.run(disks, 8)
			guest.all.Wait()
			guest.end(b)
		})
	}
}
