package nbd

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// distant is a disk whose reads take their time, like one behind a network.
type distant struct {
	plain
	latency time.Duration
}

func (d distant) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(d.latency)
	return d.plain.ReadAt(p, off)
}

// BenchmarkRead reads blocks of 512 KiB over one connection, at several depths
// and latencies of the disk.
func BenchmarkRead(b *testing.B) {
	const block = 512 << 10
	for _, latency := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		for _, depth := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("latency=%v/depth=%d", latency, depth), func(b *testing.B) {
				d := newMemDisk(b, 64<<20)
				c := connect(b, &Server{Export: one(distant{plain{d}, latency})}, "unix", Options{})
				b.SetBytes(block)
				b.ReportAllocs()
				b.ResetTimer()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range depth {
					wg.Go(func() {
						p := make([]byte, block)
						for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
							if _, err := c.ReadAt(p, i*block%(64<<20)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
