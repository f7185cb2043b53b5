package convert

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"

	"snapferry/nbd"
	"snapferry/transfer"
)

const (
	// imageLimit bounds qemu-img, which writes a header.
	imageLimit = time.Minute
	// exportLimit bounds the start of qemu-nbd.
	exportLimit = time.Minute
	// depthContext is QEMU's metadata context in which an extent's flags are the
	// number of the layer that holds it, 1 for the overlay (docs/interop/nbd.txt
	// of QEMU).
	depthContext = "qemu:allocation-depth"
	overlayDepth = 1
	overlayName  = "overlay.qcow2"
)

// serve offers base on a socket in the folder until the returned function is
// called.
func (w *workdir) serve(ctx context.Context, base *Base) (socket string, stop func() error, err error) {
	socket = w.file("base.sock")
	l, err := nbd.Listen(ctx, "unix", socket)
	if err != nil {
		return "", nil, fmt.Errorf("offer the boot disk: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		return nbd.Serve(ctx, l, func(string) (nbd.Backend, error) { return base, nil })
	})
	return socket, func() error { cancel(); return g.Wait() }, nil
}

// makeOverlay makes an empty overlay over what the socket offers.
func (w *workdir) makeOverlay(ctx context.Context, socket string) (path string, err error) {
	path = w.file(overlayName)
	backing := (&url.URL{Scheme: "nbd+unix", Path: "/", RawQuery: url.Values{"socket": {socket}}.Encode()}).String()
	_, err = w.run(ctx, imageLimit, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, path)
	if err != nil {
		return "", fmt.Errorf("make the overlay: %w", err)
	}
	return path, nil
}

// overlay is a finished overlay, served by qemu-nbd and open for reading.
type overlay struct {
	cmd    *exec.Cmd
	said   *tail
	ended  chan struct{} // closed when qemu-nbd has ended
	client *nbd.Client
}

var _ transfer.DiskReader = (*overlay)(nil)

// openOverlay starts qemu-nbd on the overlay, which nobody may write to any
// more.
func (w *workdir) openOverlay(ctx context.Context, path string) (*overlay, error) {
	socket := w.file("overlay.sock")
	o := &overlay{said: &tail{}, ended: make(chan struct{})}
	// --shared: a second client must not be kept waiting by one that is leaving.
	o.cmd = w.command(context.WithoutCancel(ctx), "qemu-nbd", "--read-only", "--persistent", "--allocation-depth", "--shared=4",
		"--format=qcow2", "--socket="+socket, path)
	o.cmd.Stdout, o.cmd.Stderr = o.said, o.said
	if err := w.start(o.cmd); err != nil {
		return nil, err
	}
	go func() { defer close(o.ended); _ = finish(o.cmd) }()
	err := o.connect(ctx, socket)
	if err != nil {
		_ = o.Close(ctx)
		return nil, failed(ctx, "qemu-nbd", exportLimit, err, o.said.String())
	}
	return o, nil
}

func (o *overlay) connect(ctx context.Context, socket string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, exportLimit)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if conn, derr := net.Dial("unix", socket); derr == nil {
			tick.Stop()
			o.client, err = nbd.NewClient(ctx, conn, "", nbd.Options{Contexts: []string{depthContext}})
			return err
		}
		select {
		case <-tick.C:
		case <-o.ended:
			tick.Stop()
			return fmt.Errorf("it ended before it served anybody")
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		}
	}
}

// ReadAt reads from the disk with its changes.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) { return o.client.ReadAt(p, off) }

// changed yields the areas that the overlay holds itself.
func (o *overlay) changed(ctx context.Context, yield func(transfer.Extent) error) error {
	return o.client.WalkExtents(ctx, depthContext, 0, o.client.Info().Size, func(e nbd.Extent) error {
		if e.Flags != overlayDepth {
			return nil
		}
		return yield(transfer.Extent{Offset: e.Offset, Length: e.Length})
	})
}

// Close ends qemu-nbd.
func (o *overlay) Close(context.Context) error {
	if o.client != nil {
		_ = o.client.Close() // reading only: nothing to lose
	}
	_ = o.cmd.Process.Signal(os.Interrupt)
	select {
	case <-o.ended:
	case <-time.After(killGrace):
		_ = o.cmd.Process.Kill()
		<-o.ended
	}
	return nil
}
