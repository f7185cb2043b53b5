package fault_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"snapferry/test/fault"
)

// echo answers every byte with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, w *fault.Wire) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answers reports what came back for a byte: itself, nothing in time, or an end.
func answers(t *testing.T, c net.Conn) string {
	t.Helper()
	if _, err := c.Write([]byte{7}); err != nil {
		return "end"
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, 1)
	n, err := c.Read(b)
	switch {
	case n == 1 && b[0] == 7:
		return "echo"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silence"
	}
	return "end"
}

func TestWire(t *testing.T) {
	w, err := fault.NewWire(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	is := func(c net.Conn, want string) {
		t.Helper()
		if got := answers(t, c); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	a := dial(t, w)
	is(a, "echo")
	w.Swallow()
	is(a, "silence")
	b := dial(t, w)
	is(b, "echo")
	is(a, "silence")
	w.Deaf()
	c := dial(t, w)
	is(c, "silence")
	is(b, "silence")
	w.Hear()
	is(c, "silence")
	d := dial(t, w)
	is(d, "echo")
	w.Cut()
	is(d, "end")
	is(dial(t, w), "echo")
}
