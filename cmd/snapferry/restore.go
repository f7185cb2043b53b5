package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

type restoreOptions struct {
	disk, progress string
	yes, force     bool
}

func restoreCommand(stop *interrupts) *cli.Command {
	return &cli.Command{
		Name: "restore", Args: "POINT FILE", Short: "download a disk of a recovery point to a sparse raw file",
		Long: pointHelp + `

FILE gets the bytes of the virtual disk, and is as long as that; zeros become
holes. It is written as FILE.partial, proven as verify does, and renamed only
then. The cost is said before.`,
		Examples: []string{"snapferry restore app01@latest --disk 1 app01.raw", "snapferry restore app01 --disk 1 app01.raw --force --yes"},
		New: func(own, flags *pflag.FlagSet) cli.Run {
			var o restoreOptions
			own.StringVar(&o.disk, "disk", "", "the disk: its `number`, label, key or UUID (may be left out where there is one)")
			own.BoolVar(&o.force, "force", false, "replace FILE if it exists")
			own.BoolVarP(&o.yes, "yes", "y", false, "do not ask before reading")
			progressFlag(own, &o.progress)
			s := newSettings(flags)
			s.aws(flags)
			s.state(flags)
			s.limit(flags)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) != 2 {
					return nil, cli.Usagef("restore takes a recovery point and a file")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				return w.restore(ctx, stop, o, args[0], args[1])
			}
		},
	}
}

func (w *wire) restore(ctx context.Context, stop *interrupts, o restoreOptions, name, path string) (cli.Value, error) {
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	defer show.close()
	if err := mayWrite(path, o.force); err != nil {
		return nil, err
	}
	point, err := w.point(ctx, name)
	if err != nil {
		return nil, err
	}
	snap, err := theDisk(point, o.disk)
	if err != nil {
		return nil, err
	}
	r, err := w.openReading(ctx, "restore", snap)
	if err != nil {
		return nil, err
	}
	if err := hasRoom(path, r.blocks*transfer.BlockSize); err != nil {
		return nil, err
	}
	if err := confirm(ctx, w.std, costOf("restore", []*reading{r}), o.yes); err != nil {
		return nil, err
	}
	return w.restoreTo(ctx, stop, show, r, path, o.force)
}

// theDisk is the disk asked for, or the only one.
func theDisk(p transfer.Point, name string) (transfer.Snapshot, error) {
	if name == "" && len(p.Disks) == 1 {
		return p.Disks[0], nil
	}
	if name == "" {
		return transfer.Snapshot{}, cli.Usagef("the point has %d disks: say which one with --disk, such as --disk 1 for %s", len(p.Disks), p.Disks[0].Label.DiskLabel)
	}
	return pickDisk(p, name)
}

// mayWrite refuses to overwrite what was not offered, and what is no file.
func mayWrite(path string, force bool) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the target: %w", err)
	case !st.Mode().IsRegular():
		return transfer.Fail(transfer.Permanent, "restore to "+path, errors.New("it exists and is no ordinary file"), "Name a file; to fill a device, restore to a file and copy that.")
	case !force:
		return transfer.Fail(transfer.Permanent, "restore to "+path, errors.New("the file exists"), "Name another file, or give --force to replace it.")
	}
	return nil
}

// hasRoom refuses a restore that would fill the file system, before it costs.
func hasRoom(path string, need int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &fs); err != nil {
		return fmt.Errorf("look at the free space of %s: %w", filepath.Dir(path), err)
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < need {
		return transfer.Fail(transfer.Permanent, "restore to "+path,
			fmt.Errorf("%s are free and %s are needed", bytesText(free), bytesText(need)), "Make room, or name a file on another file system.")
	}
	return nil
}

func (w *wire) restoreTo(ctx context.Context, stop *interrupts, show *display, r *reading, path string, force bool) (cli.Value, error) {
	partial := path + ".partial"
	f, err := openPartial(partial)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	undo := stop.leaves(func() []string { return []string{"the file " + partial + ": remove it"} })
	defer undo()
	m := w.manifest(r.snap)
	if m != nil {
		defer m.Close()
	}
	back := w.readBack(r, m)
	defer stop.through(show.writer(w.std.Err))()
	unfollow := show.follow(r)
	proved, err := transfer.Restore(ctx, back, f)
	unfollow()
	if err != nil {
		return nil, errors.Join(err, os.Remove(partial))
	}
	l := r.snap.Label
	result := restoreResult{File: partial, Label: l.DiskLabel, Size: l.DiskSize, Proved: proved, Took: time.Since(r.began)}
	if !proved.OK {
		return result, nil // left as it is, for somebody to look at
	}
	if err := moveTo(partial, path, force); err != nil {
		return result, err
	}
	result.File = path
	return result, nil
}

// openPartial opens the file to fill, empty, and keeps others from filling it.
func openPartial(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // a disk has its owner's secrets in it
	if err != nil {
		return nil, fmt.Errorf("make the file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(transfer.Fail(transfer.Retry, "restore to "+path, errors.New("another restore is writing it"), "Wait for that, or name another file."), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("empty %s: %w", path, err), f.Close())
	}
	return f, nil
}

// moveTo gives the file its name, for good.
func moveTo(partial, path string, force bool) error {
	if err := mayWrite(path, force); err != nil { // it may have appeared meanwhile
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("give the restored file its name: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync the folder of %s: %w", path, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", path, err)
	}
	return nil
}

// restoreResult is the result of restore.
type restoreResult struct {
	File  string `json:"file"`
	Label string `json:"label"`
	Size  int64  `json:"size"`
	transfer.Proved
	Took time.Duration `json:"tookNs"`
}

// Exit is 4 where bytes are wrong.
func (r restoreResult) Exit() int {
	if !r.OK {
		return exitProof
	}
	return exitDone
}

func (r restoreResult) Text(w io.Writer) {
	fmt.Fprintf(w, "%s of %s: %s in %s, %s read\n", r.Label, r.Snapshot, bytesText(r.Size), tookText(r.Took), plural(r.Blocks, "block"))
	if !r.OK {
		fmt.Fprintf(w, "WRONG: %s. What was read is in %s.\n", r.Why, r.File)
		return
	}
	fmt.Fprintf(w, "%s: %s (proof: %s)\n", r.File, verdict(r.Proved), r.Proof)
}
