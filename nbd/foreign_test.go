package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is long enough for a foreign server on a busy machine.
const patience = 20 * time.Second

// tool skips the test unless the machine has all programs.
func tool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not on this machine (Debian: apt-get install qemu-utils nbdkit libnbd-bin)", name)
		}
	}
}

func runTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// patchyDisk has data at its ends and in its middle, and holes between.
func patchyDisk(t *testing.T) *memDisk {
	d := newMemDisk(t, 4<<20+512)
	pattern(d.data[:100<<10], 1)
	pattern(d.data[1<<20:1<<20+grain], 2)
	pattern(d.data[4<<20-1000:], 3)
	return d
}

// socketURI serves d and returns its address as a URI.
func socketURI(t *testing.T, s *Server) string {
	return "nbd+unix:///disk?socket=" + startServer(t, s, "unix").String()
}

type mapped struct {
	Start, Length int64
	Offset        int64
	Type          int
	Zero, Data    bool
}

func TestForeignQemuImg(t *testing.T) {
	tool(t, "qemu-img")
	d := patchyDisk(t)
	uri := socketURI(t, &Server{Export: one(ReadOnly(d))})
	var list []mapped
	if err := json.Unmarshal([]byte(runTool(t, "qemu-img", "map", "--output=json", "-f", "raw", uri)), &list); err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	for _, e := range list {
		zero := len(bytes.Trim(d.data[e.Start:e.Start+e.Length], "\x00")) == 0
		if e.Start != at || e.Zero != zero {
			t.Errorf("qemu-img map: %+v at %d, zero is %v", e, at, zero)
		}
		at += e.Length
	}
	if at != d.Size() || len(list) != 5 {
		t.Errorf("qemu-img map: %d extents to %d: %+v", len(list), at, list)
	}
	out := filepath.Join(t.TempDir(), "raw")
	runTool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri, out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, d.data) {
		t.Errorf("qemu-img convert: %v, or other bytes", err)
	}
}

func TestForeignQemuIO(t *testing.T) {
	tool(t, "qemu-io")
	for _, network := range []string{"unix", "tcp"} {
		d := newMemDisk(t, 1<<20)
		pattern(d.data, 8)
		want := bytes.Clone(d.data)
		copy(want[4096:], bytes.Repeat([]byte{0xab}, 70000))
		clear(want[200000:300000])
		clear(want[524288 : 524288+65536])
		uri := "nbd://"
		if network == "unix" {
			uri = socketURI(t, &Server{Export: one(d)})
		} else {
			uri += startServer(t, &Server{Export: one(d)}, network).String() + "/disk"
		}
		out := runTool(t, "qemu-io", "-f", "raw", "-c", "write -P 0xab 4096 70000", "-c", "write -z 200000 100000",
			"-c", "flush", "-c", "write -f -P 0xab 4096 512", "-c", "discard 524288 65536", "-c", "read -P 0xab 4096 70000", "-c", "read -P 0 200000 100000", uri)
		if strings.Contains(out, "fail") || !bytes.Equal(d.bytes(), want) || d.flushes.Load() < 2 {
			t.Errorf("qemu-io over %s: %d flushes, or wrong bytes\n%s", network, d.flushes.Load(), out)
		}
	}
}

func TestForeignNbdinfo(t *testing.T) {
	tool(t, "nbdinfo")
	d := patchyDisk(t)
	uri := socketURI(t, &Server{Export: one(d), Names: func() []string { return []string{"disk"} }})
	out := runTool(t, "nbdinfo", "--json", uri)
	var info struct {
		Protocol   string
		Structured bool
		Exports    []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"export-name": "disk", "export-size": float64(d.Size()), "is_read_only": false, "can_df": true,
		"can_flush": true, "can_fua": true, "can_multi_conn": true, "can_trim": true, "can_zero": true, "can_fast_zero": false}
	for k, v := range want {
		if info.Exports[0][k] != v {
			t.Errorf("nbdinfo: %s is %v, want %v", k, info.Exports[0][k], v)
		}
	}
	var list []struct{ Offset, Length, Type int64 }
	if err := json.Unmarshal([]byte(runTool(t, "nbdinfo", "--map", "--json", uri)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 5 || list[1].Type != StateHole|StateZero || list[4].Type != 0 {
		t.Errorf("nbdinfo --map: %+v", list)
	}
	if out := runTool(t, "nbdinfo", "--list", uri); !strings.Contains(out, `"disk"`) {
		t.Errorf("nbdinfo --list: %s", out)
	}
}

func TestForeignNbdcopy(t *testing.T) {
	tool(t, "nbdcopy")
	from, to := patchyDisk(t), newMemDisk(t, 4<<20+512)
	pattern(to.data, 9)
	runTool(t, "nbdcopy", "--flush", socketURI(t, &Server{Export: one(ReadOnly(from))}), socketURI(t, &Server{Export: one(to)}))
	if !bytes.Equal(from.data, to.bytes()) || to.flushes.Load() == 0 {
		t.Errorf("nbdcopy: other bytes, or %d flushes", to.flushes.Load())
	}
}

// startTool runs a server that listens on the socket, until the test ends.
func startTool(t *testing.T, socket string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	var log lockedBuffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", name, &log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %s", name, &log)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestForeignNbdkit is the client against nbdkit, as the VDDK reader uses it.
func TestForeignNbdkit(t *testing.T) {
	tool(t, "nbdkit")
	for name, filters := range map[string][]string{
		"plain":     {"memory", "size=4M"},
		"no status": {"--filter=noextents", "memory", "size=4M"},
		"slow":      {"--filter=delay", "memory", "size=4M", "rdelay=2ms"},
		"blocks":    {"--filter=blocksize-policy", "memory", "size=4M", "blocksize-minimum=512", "blocksize-preferred=4096", "blocksize-maximum=65536", "blocksize-error-policy=error"},
		"simple":    {"--no-sr", "memory", "size=4M"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			startTool(t, socket, "nbdkit", append([]string{"-f", "--exit-with-parent", "-t", "32", "-U", socket}, filters...)...)
			c, err := Dial(t.Context(), "unix", socket, "", Options{HandshakeTimeout: patience, Contexts: []string{ContextAllocation}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			foreignRoundtrip(t, c, name)
		})
	}
}

func foreignRoundtrip(t *testing.T, c *Client, name string) {
	ctx := t.Context()
	want := make([]byte, 4<<20)
	pattern(want[512:1<<20], 6)
	if _, err := c.WriteAtContext(ctx, want[512:1<<20], 512); err != nil {
		t.Fatal(err)
	}
	clear(want[65536:131072])
	if err := c.WriteZeroes(ctx, 65536, 65536); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			got := make([]byte, 128<<10+3)
			off := w * (128 << 10)
			n, err := c.ReadAt(got, int64(off))
			if err != nil && err != io.EOF || !bytes.Equal(got[:n], want[off:min(off+len(got), len(want))]) {
				t.Errorf("read at %d: %d, %v, or wrong bytes", off, n, err)
			}
		})
	}
	wg.Wait()
	if _, err := c.ReadAt(make([]byte, 5), 4<<20); err != io.EOF {
		t.Errorf("read at the end: %v", err)
	}
	if name == "simple" {
		return
	}
	if err := checkExtents(ctx, c, 100, want[100:]); err != nil {
		t.Error(err)
	}
	list, err := c.BlockStatus(ctx, ContextAllocation, 0, 4<<20)
	if last := list[len(list)-1]; err != nil || (last.Flags&StateZero == 0) != (name == "no status") {
		t.Errorf("BlockStatus = %v, %v", list, err)
	}
}

func TestForeignNbdkitErrors(t *testing.T) {
	tool(t, "nbdkit")
	socket := filepath.Join(t.TempDir(), "s")
	startTool(t, socket, "nbdkit", "-f", "--exit-with-parent", "-U", socket, "--filter=error", "memory", "size=1M", "error-pread=ENOSPC", "error-pread-rate=100%")
	c, err := Dial(t.Context(), "unix", socket, "", Options{HandshakeTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var remote *RemoteError
	if _, err := c.ReadAt(make([]byte, 512), 0); !errors.As(err, &remote) || remote.Code != nbdENOSPC {
		t.Errorf("read: %v", err)
	}
	if _, err := c.WriteAt(make([]byte, 512), 0); err != nil {
		t.Errorf("the connection after an error: %v", err)
	}
}

// TestForeignDepth reads which bytes of a qcow2 overlay are its own, as the
// conversion does.
func TestForeignDepth(t *testing.T) {
	tool(t, "qemu-nbd", "qemu-img", "qemu-io")
	dir := t.TempDir()
	base := patchyDisk(t)
	baseURI := socketURI(t, &Server{Export: one(ReadOnly(base))})
	overlay, socket := filepath.Join(dir, "o.qcow2"), filepath.Join(dir, "s")
	runTool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", baseURI, overlay)
	runTool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 0x77 1M 64k", "-c", "write -z 3M 128k", overlay)
	startTool(t, socket, "qemu-nbd", "-r", "-t", "-e", "4", "-A", "-f", "qcow2", "-x", "disk", "-k", socket, overlay)
	c, err := Dial(t.Context(), "unix", socket, "disk", Options{HandshakeTimeout: patience, Contexts: []string{ContextAllocation, ContextDepth}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if i := c.Info(); len(i.Contexts) != 2 || !i.ReadOnly || i.Size != base.Size() {
		t.Fatalf("Info = %+v", i)
	}
	list, err := c.BlockStatus(t.Context(), ContextDepth, 0, c.Size())
	var own []Extent
	for _, e := range list {
		if e.Flags == 1 {
			own = append(own, e)
		}
	}
	if err != nil || len(own) != 2 || own[0] != (Extent{1 << 20, 64 << 10, 1}) || own[1] != (Extent{3 << 20, 128 << 10, 1}) {
		t.Errorf("%v: the overlay's own extents are %v of %v", err, own, list)
	}
	want := bytes.Clone(base.data)
	copy(want[1<<20:], bytes.Repeat([]byte{0x77}, 64<<10))
	clear(want[3<<20 : 3<<20+128<<10])
	got := make([]byte, len(want))
	if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read: %v, or wrong bytes", err)
	}
	if _, err := Dial(t.Context(), "unix", socket, "gone", Options{HandshakeTimeout: patience}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown export: %v", err)
	}
	exports, err := List(t.Context(), "unix", socket, Options{HandshakeTimeout: patience})
	if err != nil || len(exports) != 1 || exports[0].Name != "disk" {
		t.Errorf("List = %v, %v", exports, err)
	}
}
