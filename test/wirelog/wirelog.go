package wirelog

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"
)

// Log collects exchanges. Its methods may be called by many goroutines.
type Log struct {
	mu sync.Mutex
	w  io.Writer
}

// New returns a log that writes to w.
func New(w io.Writer) *Log { return &Log{w: w} }

// Linef writes one redacted line with the time.
func (l *Log) Linef(format string, args ...any) {
	l.write([]byte(time.Now().UTC().Format("15:04:05.000 ") + fmt.Sprintf(format, args...) + "\n"))
}

func (l *Log) write(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(Redact(b)) // a log that cannot be written must not fail the test
}

// NewFile implements govmomi's debug.Provider: one file for each part of an
// exchange, written when it is complete.
func (l *Log) NewFile(name string) io.WriteCloser { return &part{log: l, name: name} }

// Flush implements govmomi's debug.Provider.
func (l *Log) Flush() {}

// maxPart is how much of one part is kept: enough for every message, not for
// lists of thousands of VMs.
const maxPart = 256 << 10

type part struct {
	log  *Log
	name string
	buf  bytes.Buffer
}

func (p *part) Write(b []byte) (int, error) {
	if room := maxPart - p.buf.Len(); room > 0 {
		p.buf.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (p *part) Close() error {
	p.log.write(fmt.Appendf(nil, "%s --- %s\n%s\n", time.Now().UTC().Format("15:04:05.000"), p.name, p.buf.Bytes()))
	return nil
}

// secrets are what must not leave the machine: each pattern keeps its first
// and its last group.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?is)(<(?:\w+:)?(?:password|base64Token|ticket|cloneTicket|sessionId|userName)\b[^>]*>).*?(</)`),
	regexp.MustCompile(`(?i)((?:authorization|proxy-authorization|cookie|set-cookie|vmware-api-session-id|x-amz-security-token):\s*)[^\r\n]+()`),
	regexp.MustCompile(`(?i)(vmware_soap_session=)"?[^";\s<]+"?()`),
	regexp.MustCompile(`(://)[^/@\s<>"]+(@)`),
	regexp.MustCompile(`(?i)((?:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|password|secret)=)[^&\s"<]+()`),
	regexp.MustCompile(`()\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b()`),
	regexp.MustCompile(`(?is)(<key>)[0-9a-f-]{30,}(</key>)`),
}

// Redact replaces secrets with "[redacted]".
func Redact(b []byte) []byte {
	for _, s := range secrets {
		b = s.ReplaceAll(b, []byte("${1}[redacted]${2}"))
	}
	return b
}
