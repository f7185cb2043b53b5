package convert

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// launchLimit bounds the start of the appliance: 15 to 60 s in software
	// emulation, more when supermin builds it for the first time.
	launchLimit = 10 * time.Minute
	// kvmLimit bounds it with KVM, where it takes some seconds: in a virtual
	// machine KVM may hang.
	kvmLimit = 2 * time.Minute
	// lookLimit bounds one question about the guest.
	lookLimit = 5 * time.Minute
	// maxAnswer bounds what one command may say: a guest is not to fill memory.
	maxAnswer = 8 << 20
)

// session is a guestfish that runs in its own process and is spoken to line by
// line: one start of the appliance, which is what costs, serves looking and
// changing.
type session struct {
	w     *workdir
	cmd   *exec.Cmd
	in    io.WriteCloser
	said  *tail // standard error
	lines chan string
	ended chan struct{}
	err   error // how it ended; read after ended
	broke error // no more commands after this one failed
}

// appliance starts libguestfs on a disk image. With readOnly nothing reaches the
// image: changes go into an overlay of the appliance's own. Where KVM is there
// and does not work, the appliance is started once more without.
func (w *workdir) appliance(ctx context.Context, image, format string, readOnly bool) (*session, error) {
	fast := !emulate() && os.Getenv("LIBGUESTFS_BACKEND_SETTINGS") == ""
	limit := launchLimit
	if fast {
		limit = kvmLimit
	}
	s, err := w.launch(ctx, limit, image, format, readOnly)
	if err == nil || !fast || ctx.Err() != nil || errors.Is(err, ErrMissingProgram) {
		return s, err
	}
	noKVM.Store(true)
	return w.launch(ctx, launchLimit, image, format, readOnly)
}

func (w *workdir) launch(ctx context.Context, limit time.Duration, image, format string, readOnly bool) (*session, error) {
	args := []string{"--no-progress-bars"}
	if readOnly {
		args = append(args, "--ro")
	}
	args = append(args, "--format="+format, "--add", image)
	s := &session{w: w, said: &tail{}, lines: make(chan string, 16), ended: make(chan struct{})}
	s.cmd = w.command(context.WithoutCancel(ctx), "guestfish", args...)
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start guestfish: %w", err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guestfish: %w", err)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, s.said
	if err := w.start(s.cmd); err != nil {
		out.Close()
		r.Close()
		return nil, err
	}
	out.Close()
	go s.read(r)
	go func() { s.err = finish(s.cmd); close(s.ended) }()
	if _, err := s.do(ctx, limit, "run"); err != nil {
		s.end()
		return nil, fmt.Errorf("start the libguestfs appliance: %w", err)
	}
	return s, nil
}

func (s *session) read(r *os.File) {
	defer close(s.lines)
	defer r.Close()
	b := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := b.ReadString('\n')
		if line != "" {
			select {
			case s.lines <- line:
			case <-s.ended: // nobody listens any more
			}
		}
		if err != nil {
			return
		}
	}
}

// quote makes one word of guestfish's language of s.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// do sends one command and returns what it said. A command that fails ends the
// session, unless it begins with "-": then it says nothing.
func (s *session) do(ctx context.Context, limit time.Duration, name string, args ...string) (string, error) {
	if s.broke != nil {
		return "", s.broke
	}
	answer, err := s.ask(ctx, limit, name, args)
	if err != nil {
		s.broke = err
		s.end()
	}
	return answer, err
}

func (s *session) ask(ctx context.Context, limit time.Duration, name string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var nonce [8]byte
	_, _ = rand.Read(nonce[:])
	mark := "end-of-" + hex.EncodeToString(nonce[:])
	line := name
	for _, a := range args {
		line += " " + quote(a)
	}
	what := "guestfish " + strings.TrimPrefix(name, "-")
	if _, err := io.WriteString(s.in, line+"\n!echo "+mark+"\n"); err != nil {
		return "", s.failed(ctx, what, limit, err)
	}
	var b strings.Builder
	for {
		select {
		case l, ok := <-s.lines:
			if !ok {
				return "", s.failed(ctx, what, limit, errors.New("it ended"))
			}
			// What a program printed without an end of line stands before the mark.
			if before, found := strings.CutSuffix(strings.TrimSuffix(l, "\n"), mark); found {
				b.WriteString(before)
				return b.String(), nil
			}
			if b.Len()+len(l) > maxAnswer {
				return "", fmt.Errorf("%s: it says more than %d MiB", what, maxAnswer>>20)
			}
			b.WriteString(l)
		case <-ctx.Done():
			return "", s.failed(ctx, what, limit, ctx.Err())
		}
	}
}

func (s *session) failed(ctx context.Context, what string, limit time.Duration, err error) error {
	if errors.Is(err, io.ErrClosedPipe) || strings.Contains(err.Error(), "pipe") || err.Error() == "it ended" {
		select { // its last words
		case <-s.ended:
		case <-time.After(killGrace):
		}
		if s.err != nil {
			err = s.err
		}
	}
	return failed(ctx, what, limit, err, s.said.String())
}

// close lets guestfish end by itself, so that all is written.
func (s *session) close(ctx context.Context) error {
	if s.broke == nil {
		if _, err := s.do(ctx, lookLimit, "shutdown"); err != nil {
			return fmt.Errorf("shut the libguestfs appliance down: %w", err)
		}
	}
	_ = s.in.Close()
	select {
	case <-s.ended:
	case <-time.After(killGrace):
		s.end()
	}
	return s.broke
}

// end ends guestfish and its appliance, however they are.
func (s *session) end() {
	_ = s.in.Close()
	select {
	case <-s.ended:
		return
	default:
	}
	_ = s.cmd.Cancel()
	select {
	case <-s.ended:
	case <-time.After(killGrace):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}
