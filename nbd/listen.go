package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Listen listens on a Unix socket ("unix", path), which only its owner may open
// (mode 0600), or on a loopback address ("tcp", "127.0.0.1:port"). It refuses
// other addresses: NBD as spoken here has neither encryption nor passwords. A
// socket that a crashed process left behind is replaced, one that is in use is
// not. The socket's file goes away with the listener.
func Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	switch network {
	case "unix":
		return listenUnix(ctx, addr)
	case "tcp", "tcp4", "tcp6":
		return listenLoopback(ctx, network, addr)
	}
	return nil, fmt.Errorf("nbd: listen on %s %s: the network is to be unix or tcp", network, addr)
}

func listenLoopback(ctx context.Context, network, addr string) (net.Listener, error) {
	a, err := net.ResolveTCPAddr(network, addr)
	if err != nil {
		return nil, fmt.Errorf("nbd: listen on %s: %w", addr, err)
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("nbd: listen on %s: not a loopback address, and NBD is open to whoever connects: use 127.0.0.1 or a Unix socket", addr)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, network, a.String())
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: ownerOnly}
	l, err := lc.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("nbd: replace the abandoned socket: %w", err)
		}
		l, err = lc.Listen(ctx, "unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("nbd: %w", err)
	}
	// Where the mode could not be set before the socket had a name.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("nbd: listen on %s: %w", path, err)
	}
	return l, nil
}

// abandoned tells whether path is a socket to which nobody listens.
func abandoned(path string) bool {
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
