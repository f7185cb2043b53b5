package aws_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"snapferry/test/aws"
)

// BenchmarkPut is the rate of the SDK's puts with their digest, client and
// emulator in one process.
func BenchmarkPut(b *testing.B) {
	for _, k := range []struct {
		name string
		opt  aws.Options
	}{{"memory", aws.Options{}}, {"file", aws.Options{Dir: b.TempDir()}}, {"tls", aws.Options{TLS: true, Dir: b.TempDir()}}} {
		b.Run(k.name, func(b *testing.B) {
			e, err := aws.New(k.opt)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = e.Close() }()
			r := &rig{e: e, ctx: b.Context()}
			r.configure("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
			r.trust()
			id := startFor(b, r)
			var next atomic.Int64
			b.SetBytes(blockSize)
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				data := random()
				for pb.Next() {
					// Few blocks, again and again: the rate is asked for, not the room.
					i := next.Add(1) % 1024
					data[0], data[1] = byte(i), byte(i>>8)
					if err := r.tryPut(id, int(i), data); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func startFor(b *testing.B, r *rig) string {
	b.Helper()
	size := int64(1)
	out, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: &size})
	if err != nil {
		b.Fatal(err)
	}
	return *out.SnapshotId
}

// BenchmarkServePut leaves out the client and the network: what a put costs the
// emulator.
func BenchmarkServePut(b *testing.B) {
	e, err := aws.New(aws.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	r := &rig{e: e, ctx: b.Context()}
	r.configure("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", "us-east-1")
	id, data := startFor(b, r), random()
	req := r.signed(b, "PUT", fmt.Sprintf("/snapshots/%s/blocks/0", id), putHeader(data))
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for b.Loop() {
		again := req.Clone(r.ctx)
		again.Body, again.ContentLength = newBody(data), blockSize
		w := &sink{header: http.Header{}}
		e.ServeHTTP(w, again)
		if w.status != 201 {
			b.Fatalf("status %d", w.status)
		}
	}
}
