package aws_test

import (
	"bytes"
	"io"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"snapferry/test/aws"
)

// at reads n bytes at off.
func at(t *testing.T, r io.ReaderAt, off int64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil {
		t.Fatalf("read %d bytes at %d: %v", n, off, err)
	}
	return b
}

func TestImageReadsTheChain(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		r := newRig(t, aws.Options{Dir: t.TempDir(), EncryptionByDefault: encrypted})
		a, b := random(), random()
		root := r.snapshot(ebs.StartSnapshotInput{}, map[int][]byte{0: a, 1: b, 4: make([]byte, blockSize)})
		child := r.snapshot(ebs.StartSnapshotInput{ParentSnapshotId: &root, VolumeSize: awssdk.Int64(2)}, map[int][]byte{1: a})
		im, size, err := r.e.Image(child)
		if err != nil || size != 2<<30 {
			t.Fatalf("image of %d bytes, %v", size, err)
		}
		if err := r.e.DeleteOutOfBand(root); err != nil {
			t.Fatal(err)
		}
		want := append(append([]byte{}, a[100:]...), a[:200]...)
		if got := at(t, im, 100, blockSize+100); !bytes.Equal(got, want) {
			t.Error("written blocks read back wrong across their border")
		}
		if got := at(t, im, 4*blockSize, blockSize); !bytes.Equal(got, make([]byte, blockSize)) {
			t.Error("a written zero block is not zero")
		}
		absent := at(t, im, 2*blockSize+13, 100000)
		if zero := bytes.Count(absent, []byte{0}); encrypted && zero != 0 || !encrypted && zero != len(absent) {
			t.Errorf("encrypted %v: absent block has %d zeros of %d", encrypted, zero, len(absent))
		}
		if again := at(t, im, 2*blockSize+20, 1000); !bytes.Equal(again, absent[7:1007]) {
			t.Error("garbage is not the same at a second reading")
		}
		if n, err := im.ReadAt(make([]byte, 100), size-40); n != 40 || err != io.EOF {
			t.Errorf("read over the end: %d, %v", n, err)
		}
	}
}

func TestVolumes(t *testing.T) {
	r := newRig(t, aws.Options{})
	b := random()
	id := r.snapshot(ebs.StartSnapshotInput{}, map[int][]byte{0: b})
	create := func(in ec2.CreateVolumeInput) (*ec2.CreateVolumeOutput, error) {
		in.AvailabilityZone = awssdk.String("us-east-1a")
		return r.ec2.CreateVolume(r.ctx, &in)
	}
	for _, encrypted := range []bool{false, true} {
		v, err := create(ec2.CreateVolumeInput{SnapshotId: &id, Encrypted: &encrypted, Size: awssdk.Int32(2)})
		if err != nil {
			t.Fatal(err)
		}
		im, size, err := r.e.VolumeImage(*v.VolumeId)
		if err != nil || size != 2<<30 || !bytes.Equal(at(t, im, 0, blockSize), b) {
			t.Fatalf("volume of %d bytes reads wrong, %v", size, err)
		}
		if garbage := at(t, im, 5*blockSize, 1)[0] != 0; garbage != encrypted || *v.Encrypted != encrypted {
			t.Errorf("encrypted %v: absent blocks are garbage: %v", encrypted, garbage)
		}
		out, err := r.ec2.DescribeVolumes(r.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}})
		if err != nil || len(out.Volumes) != 1 || *out.Volumes[0].SnapshotId != id || *out.Volumes[0].Size != 2 {
			t.Errorf("described %v, %v", out, err)
		}
		if _, err := r.ec2.DeleteVolume(r.ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId}); err != nil {
			t.Error(err)
		}
		_, err = r.ec2.DeleteVolume(r.ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId})
		r.wantError(err, "InvalidVolume.NotFound", 400)
	}
	draft := r.start(ebs.StartSnapshotInput{})
	_, err := create(ec2.CreateVolumeInput{SnapshotId: &draft})
	r.wantError(err, "IncorrectState", 400)
}
