package scenario_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

// names is a DNS server of this process alone, for the domain lab.test: every
// name in it is the loopback address until it is told to be away.
type names struct {
	conn net.PacketConn
	made atomic.Int64

	mu    sync.Mutex
	away  map[string]bool
	asked map[string]int // while away
}

var lookups = &names{away: map[string]bool{}, asked: map[string]int{}}

// serve makes the process resolve through it. Tests with an address in digits
// ask nobody.
func (n *names) serve() error {
	var err error
	if n.conn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return err
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
	go func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := n.conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := n.answer(buf[:size]); err == nil {
				_, _ = n.conn.WriteTo(reply, from) // it asks again
			}
		}
	}()
	return nil
}

// fresh is a name that no other test uses.
func (n *names) fresh() string {
	return "host" + string(rune('a'+n.made.Add(1)%26)) + strings.Repeat("x", int(n.made.Load())) + ".lab.test"
}

// set makes a name answer, or fail as a server does that cannot ask further.
func (n *names) set(name string, away bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away[name] = away
}

// failed is how many questions for a name failed.
func (n *names) failed(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

const (
	typeA        = 1
	serverFailed = 2
	noSuchName   = 3
)

// answer makes the reply to a query with one question (RFC 1035, section 4).
func (n *names) answer(q []byte) ([]byte, error) {
	const header = 12
	var labels []string
	at := header
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if end > len(q) {
			return nil, errors.New("a label leaves the packet")
		}
		labels = append(labels, string(q[at+1:end]))
		at = end
	}
	at += 5 // the empty label, type and class
	if at > len(q) {
		return nil, errors.New("the question leaves the packet")
	}
	kind := binary.BigEndian.Uint16(q[at-4:])
	name := strings.ToLower(strings.Join(labels, "."))
	reply := append([]byte{}, q[:at]...)
	reply[2], reply[3] = 0x81, 0x80           // an answer, recursion wanted and had
	copy(reply[6:], []byte{0, 0, 0, 0, 0, 0}) // no records yet
	switch n.mu.Lock(); {
	case n.away[name]:
		n.asked[name]++
		reply[3] |= serverFailed
	case !strings.HasSuffix(name, ".lab.test"):
		reply[3] |= noSuchName
	case kind == typeA:
		reply[7] = 1
		reply = append(reply, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	n.mu.Unlock()
	return reply, nil
}
