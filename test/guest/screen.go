package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lookMemory is how often a guest's memory is searched, which takes some tenths
// of a second.
const lookMemory = 3 * time.Second

// lostLimit: dracut waits for two minutes for a disk, and tells then.
const lostLimit = 5 * time.Minute

// gaveUp is what the initramfs of initramfs-tools and of dracut print when the
// disk of the root does not appear.
var gaveUp = regexp.MustCompile(`ALERT!  *\S*=?\S* +does not exist|Gave up waiting for root file system|initqueue:? timeout|Could not boot|Timed out waiting for device|emergency mode|Kernel panic`)

// BootLost starts a machine whose guest is not to find its disk, and returns what
// its initramfs says about that on the screen. It is an error if the guest comes
// up, or says nothing of the kind within five minutes: the machine's Limit, or
// what stands for BootLimit if that is more.
func BootLost(ctx context.Context, m Machine) (said string, err error) {
	m.Limit = cmp.Or(m.Limit, max(Patience(), lostLimit))
	r, err := Start(m)
	if err != nil {
		return "", err
	}
	defer r.End()
	ctx, cancel := context.WithTimeout(ctx, m.Limit)
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- r.Until(ctx, ready.MatchString) }()
	every := look
	if m.Firmware == "efi" {
		every = lookMemory
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-up:
			if err == nil {
				err = errors.New("it came up")
			}
			return "", fmt.Errorf("boot a guest that cannot find its disk: %w", err)
		case <-tick.C:
		}
		text, err := r.screen(m)
		if err != nil {
			return "", err
		}
		if at := gaveUp.FindStringIndex(text); at != nil {
			return strings.Join(strings.Fields(text[at[0]:min(len(text), at[0]+160)]), " "), nil
		}
	}
}

// screen is text that the guest's kernel has on its console.
func (r *Running) screen(m Machine) (string, error) {
	if m.Firmware == "efi" {
		return r.graphicScreen()
	}
	// The text mode of VGA: a window of 32 KiB at a place that is the same since
	// 1987, a character and its attribute by turns.
	file := filepath.Join(m.Dir, fmt.Sprintf("screen-%d.bin", time.Now().UnixNano()))
	defer os.Remove(file)
	if _, err := r.command("pmemsave", map[string]any{"val": 0xb8000, "size": 32 << 10, "filename": file}); err != nil {
		return "", err
	}
	b, err := os.ReadFile(file)
	return characters(b), err
}

// plain is the attribute of text that has none: grey on black.
const plain = 7

func characters(b []byte) string {
	var s strings.Builder
	for i := 0; i+1 < len(b); i += 2 {
		if b[i] >= ' ' && b[i] < 0x7f {
			s.WriteByte(b[i])
		} else {
			s.WriteByte(' ')
		}
	}
	return s.String()
}

// graphicScreen: on a screen of pixels the kernel keeps the text in its memory,
// in the form of VGA's. Where it keeps it is not to be known from outside: the
// text is looked for by the first words of its lines.
func (r *Running) graphicScreen() (string, error) {
	ram, err := r.memory()
	if err != nil {
		return "", err
	}
	defer ram.Close()
	begins := []string{"ALERT!", "Gave up", "Kernel panic"}
	for i, w := range begins {
		var b strings.Builder
		for _, c := range []byte(w) {
			b.WriteByte(c)
			b.WriteByte(plain)
		}
		begins[i] = b.String()
	}
	const piece, lines = 4 << 20, 4 << 10 // a match may be in two pieces
	buf := make([]byte, piece+lines)
	for off := int64(0); ; {
		data, err := unix.Seek(int(ram.Fd()), off, unix.SEEK_DATA)
		if err != nil { // ENXIO: there is no more
			return "", nil
		}
		off = data
		n, err := ram.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the guest's memory: %w", err)
		}
		text := string(buf[:n])
		for _, w := range begins {
			if i := strings.Index(text, w); i >= 0 {
				return characters(buf[i:min(n, i+lines)]), nil
			}
		}
		off += piece
	}
}

// memory is the guest's, which QEMU has as a file without a name.
func (r *Running) memory() (*os.File, error) {
	dir := fmt.Sprintf("/proc/%d/fd", r.pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("find the guest's memory: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if target, err := os.Readlink(name); err == nil && strings.HasPrefix(target, "/memfd:memory-backend") {
			return os.Open(name)
		}
	}
	return nil, errors.New("find the guest's memory: QEMU has no such file")
}
