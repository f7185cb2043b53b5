package console

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// ListenOptions are for TLS; without Cert there is none.
type ListenOptions struct {
	Cert, Key string // PEM files, read again when they change
	Log       *slog.Logger
}

// Listen opens HOST:PORT, or unix:PATH with mode 0600, for [Server.HTTP] to
// serve. With TLS it is version 1.2 or newer, and a renewed certificate is
// used from the next connection on.
func Listen(addr string, o ListenOptions) (net.Listener, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(path)
	}
	var pair *certificate
	if o.Cert != "" {
		pair = &certificate{certFile: o.Cert, keyFile: o.Key, log: o.Log, now: time.Now}
		if err := pair.load(); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if pair == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: pair.get,
	}), nil
}

// listenUnix opens a socket. One that a crash left is removed, one that
// somebody answers is not.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // only asked whether anybody is there
		return nil, fmt.Errorf("listen on %s: another connector listens there", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove the old socket %s: %w", path, err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// lookEvery is how often the files are looked at, when somebody connects. A
// variable only for tests, which cannot wait.
var lookEvery = time.Second

// certificate is a pair of files and what was last read of them.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  string // of the files as they were read
	looked time.Time
}

// stamps tells versions of the files apart.
func (c *certificate) stamps() (string, error) {
	var b strings.Builder
	for _, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return "", fmt.Errorf("read the server's certificate: %w", err)
		}
		fmt.Fprintf(&b, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return b.String(), nil
}

func (c *certificate) load() error {
	stamp, err := c.stamps()
	if err != nil {
		return err
	}
	if stamp == c.stamp {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read the server's certificate %s: %w", c.certFile, err)
	}
	if c.stamp != "" {
		c.log.Info("console: the server's certificate was renewed", "file", c.certFile, "until", pair.Leaf.NotAfter)
	}
	c.pair, c.stamp = &pair, stamp
	return nil
}

// get is called for each connection. Files that do not fit together, because
// only one of them was written yet, leave the old pair in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= lookEvery {
		c.looked = now
		if err := c.load(); err != nil {
			c.log.Warn("console: the old certificate stays in use", "error", err)
		}
	}
	return c.pair, nil
}
