package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL cluster of this process.
type Server struct {
	bin, dir  string
	as        *syscall.Credential // nil: as this process
	port      int
	databases atomic.Int64
	tether    *os.File // closing it removes the cluster

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil while it is stopped
	gone chan struct{} // closed when cmd has ended
}

// patience is how long a cluster may take to start, to recover or to stop; on a
// busy machine, for it takes a second.
const patience = 60 * time.Second

// newServer makes a cluster and starts it.
func newServer() (*Server, error) {
	s := &Server{}
	var err error
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	base := os.TempDir()
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.as, err = somebody(); err != nil {
			return nil, err
		}
		base = "/tmp" // a folder of root's own would be closed to others
	}
	if s.dir, err = os.MkdirTemp(base, "snapferry-postgres-"); err != nil {
		return nil, err
	}
	if err = s.make(); err == nil {
		err = s.start()
	}
	if err != nil {
		err = fmt.Errorf("start PostgreSQL: %w\n%s", err, s.log())
		s.remove()
		return nil, err
	}
	return s, nil
}

// programs is the folder of PostgreSQL's programs.
func programs() (string, error) {
	folders := []string{os.Getenv("PG_BIN"), "/usr/lib/postgresql/15/bin"}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	for _, f := range folders {
		if f == "" {
			continue
		}
		if _, err := exec.LookPath(filepath.Join(f, "initdb")); err == nil {
			return f, nil
		}
	}
	return "", errors.New("PostgreSQL is not installed: install the Debian package postgresql-15, or set PG_BIN to the folder of its programs")
}

// somebody is a user without rights.
func somebody() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("there is no user postgres or nobody to run PostgreSQL as")
}

// command is a program that runs as the cluster's user, in its folder, and is
// not hit by signals to the test's process group.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = s.dir
	c.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.as}
	return c
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// make makes the cluster's files, and the tether: a process that removes them
// as soon as this one is gone, however it ends.
func (s *Server) make() error {
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	if err := s.tie(); err != nil {
		return err
	}
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(Password), 0o644); err != nil {
		return err
	}
	out, err := s.command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", user, "--pwfile", password,
		"--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

// tieScript waits for its input to end, stops the server and removes all.
const tieScript = `read _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
n=0
while [ -e "$1/data/postmaster.pid" ] && [ $n -lt 50 ]; do n=$((n+1)); sleep 0.1; done
rm -rf "$1"`

func (s *Server) tie() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c := s.command("/bin/sh", "-c", tieScript, "tie", s.dir)
	c.Dir = "/"
	c.Stdin = r
	if err := c.Start(); err != nil {
		w.Close()
		return err
	}
	go func() { _ = c.Wait() }()
	s.tether = w
	return nil
}

// remove stops the server and removes its files.
func (s *Server) remove() {
	s.kill()
	_ = os.RemoveAll(s.dir)
	if s.tether != nil {
		s.tether.Close()
	}
}

// settings: without fsync a test's commit takes no disk, and a server that is
// killed loses nothing all the same, as the kernel has it.
var settings = []string{"fsync=off", "full_page_writes=off", "max_connections=300", "shared_buffers=32MB",
	"listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off", "log_min_messages=warning"}

func (s *Server) start() error {
	var err error
	for range 3 { // somebody else may take the port in between
		if s.port == 0 {
			if s.port, err = freePort(); err != nil {
				return err
			}
		}
		if err = s.launch(); err == nil {
			return nil
		}
		if s.databases.Load() == 0 { // URLs that were given out have the old one
			s.port = 0
		}
	}
	return err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// launch starts the server once and waits until it answers.
func (s *Server) launch() error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	for _, v := range settings {
		args = append(args, "-c", v)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	c := s.command(filepath.Join(s.bin, "postgres"), args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { _ = c.Wait(); close(gone) }()
	s.mu.Lock()
	s.cmd, s.gone = c, gone
	s.mu.Unlock()
	if err := s.answers(gone); err != nil {
		s.kill()
		return err
	}
	return nil
}

func (s *Server) answers(gone chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-gone:
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", err)
		case <-time.After(20 * time.Millisecond): // between two looks
		}
	}
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd != nil
}

// end sends a signal to the server and waits until it is gone.
func (s *Server) end(signal syscall.Signal) {
	s.mu.Lock()
	c, gone := s.cmd, s.gone
	s.cmd = nil
	s.mu.Unlock()
	if c == nil {
		return
	}
	_ = c.Process.Signal(signal)
	select {
	case <-gone:
	case <-time.After(patience):
		_ = c.Process.Kill()
		<-gone
	}
}

// kill ends the server and all its sessions at once: left alone, sessions would
// answer until they notice.
func (s *Server) kill() {
	s.mu.Lock()
	c := s.cmd
	s.mu.Unlock()
	if c == nil {
		return
	}
	_ = c.Process.Signal(syscall.SIGSTOP) // no further sessions
	for _, pid := range children(c.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.end(syscall.SIGKILL)
}

// children are the processes that one has started.
func children(pid int) (pids []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for _, f := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Stop kills the server with all its sessions: kill -9.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.kill()
}

// Start starts it again, on the same port, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if s.running() {
		t.Fatal("start PostgreSQL: it runs")
	}
	deadline := time.Now().Add(patience)
	for {
		err := s.launch()
		if err == nil {
			return
		}
		// Sessions of a killed server take a moment to notice.
		if time.Now().After(deadline) {
			t.Fatalf("start PostgreSQL: %v\n%s", err, s.log())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Restart stops the server in order, which ends all sessions, and starts it.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.end(syscall.SIGINT) // "fast"
	s.Start(t)
}

// log is the end of the server's log.
func (s *Server) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-2000):])
}
