package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestLinesHaveTheAgreedForm(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.FixedZone("CET", 3600))
	record := func() slog.Record {
		r := slog.NewRecord(at, slog.LevelWarn, "replicated", 0)
		r.AddAttrs(VM("web"), Disk("Hard disk 1"), Cycle("20260301T110000.000Z-01020304"), Run(7), Took(1500*time.Millisecond), Err(errors.New("no room")))
		return r
	}
	for _, c := range []struct {
		format  string
		journal bool
		want    string
	}{
		{"text", false, `time=2026-03-01T11:00:00.005Z level=WARN msg=replicated vm=web disk="Hard disk 1" cycle=20260301T110000.000Z-01020304 run=7 took=1.5s error="no room"`},
		{"text", true, `<4>level=WARN msg=replicated vm=web disk="Hard disk 1" cycle=20260301T110000.000Z-01020304 run=7 took=1.5s error="no room"`},
		{"json", false, `{"time":"2026-03-01T11:00:00.005Z","level":"WARN","msg":"replicated","vm":"web","disk":"Hard disk 1","cycle":"20260301T110000.000Z-01020304","run":7,"took":1.5,"error":"no room"}`},
		{"json", true, `<4>{"level":"WARN","msg":"replicated","vm":"web","disk":"Hard disk 1","cycle":"20260301T110000.000Z-01020304","run":7,"took":1.5,"error":"no room"}`},
	} {
		var out bytes.Buffer
		if err := newHandler(&out, Options{Format: c.format}, c.journal).Handle(t.Context(), record()); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSuffix(out.String(), "\n"); got != c.want {
			t.Errorf("%s, journal %v:\n got %s\nwant %s", c.format, c.journal, got, c.want)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level string
		want  int
	}{{"debug", 4}, {"info", 3}, {"warn", 2}, {"error", 1}, {"", 3}, {"loud", 3}} {
		var out bytes.Buffer
		log := New(&out, Options{Level: c.level})
		log.Debug("d")
		log.Info("i")
		log.Warn("w")
		log.Error("e")
		if got := strings.Count(out.String(), "\n"); got != c.want {
			t.Errorf("level %q: %d lines, want %d", c.level, got, c.want)
		}
	}
	if _, ok := ParseLevel("loud"); ok {
		t.Error("loud is no level")
	}
}

func TestSecretsStayOut(t *testing.T) {
	const secret = "hunter2/+x"
	password := `p"w\d` // what both formats quote
	parsed, _ := url.Parse("https://someone:Zq81sesame@vc.example.com/sdk")
	values := []slog.Attr{
		slog.String("password", secret), slog.String("vcenterPassword", secret), slog.Any("Authorization", []string{secret}),
		slog.String("session_token", secret), slog.Any("apiKey", struct{ A string }{secret}),
		slog.Group("aws", slog.String("secretAccessKey", secret)),
		slog.String("url", "https://user:"+password+"@db.example.com/x"),
		slog.Any("parsed", parsed),
		slog.Any("error", fmt.Errorf("get %s", "https://s3.example.com/o?X-Amz-Credential=AKIDEXAMPLE%2F2026&X-Amz-Signature=deadbeef00&X-Amz-Security-Token=FwoGZXIvYXdz&x=1")),
		slog.Any("header", http.Header{"X-Amz-Security-Token": {"FwoGZXIvYXdz"}, "Authorization": {"Bearer abcdefgh12345678"}}),
		slog.Any("struct", struct{ DSN string }{"postgres://snapferry:Zq81sesame@db/x"}),
		slog.String("signed", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260301/eu-central-1/ebs/aws4_request, SignedHeaders=host, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
		slog.String("env", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI PGPASSWORD=Zq81sesame"),
		slog.String("hook", "https://hooks.example.com/a?token=Zq81sesame&b=1"),
	}
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := New(&out, Options{Format: format})
		log.LogAttrs(t.Context(), slog.LevelInfo, "dial https://me:Zq81sesame@proxy:3128: refused", values...)
		log.With(values[0]).WithGroup("g").Info("again", "token", secret)
		got := out.String()
		for _, s := range []string{secret, "hunter2", `p\"w`, "w\\d", "sesame", "deadbeef00", "AKIDEXAMPLE", "FwoGZXIvYXdz", "abcdefgh12345678", "5d672d79", "wJalrXUtnFEMI"} {
			if strings.Contains(got, s) {
				t.Errorf("%s: %q is in the log:\n%s", format, s, got)
			}
		}
		for _, s := range []string{"db.example.com/x", "proxy:3128: refused", "x=1", "b=1", "vc.example.com/sdk", "again"} {
			if !strings.Contains(got, s) {
				t.Errorf("%s: %q is missing:\n%s", format, s, got)
			}
		}
		if format == "json" {
			for line := range strings.Lines(got) {
				if !json.Valid([]byte(line)) {
					t.Errorf("no JSON any more: %s", line)
				}
			}
		}
	}
}

func TestOrdinaryTextStays(t *testing.T) {
	for _, s := range []string{
		"VM web@prod is at https://vc.example.com/ui?vm=1", "basic checks passed", "token: expired", "datastore=ds1 key=value",
		`{"a":"https://host","b":"ops@example.com"}`, "X-Amz-Date=20260301T000000Z", "bearer of news",
	} {
		if got := Redact(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, key := range []string{"vm", "key", "tokens", "secretive", "cookies"} {
		if isSecretKey(key) {
			t.Errorf("%q is taken for a secret's name", key)
		}
	}
	var out bytes.Buffer
	New(&out, Options{}).Info("x", "token", 3, "password", "", "secret", true)
	if strings.Contains(out.String(), Redacted) {
		t.Errorf("nothing to hide, but: %s", out.String())
	}
}

func TestTheJournalsStreamIsKnown(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for _, c := range []struct {
		stream string
		want   bool
	}{{fmt.Sprintf("%d:%d", st.Dev, st.Ino), true}, {fmt.Sprintf("%d:%d", st.Dev, st.Ino+1), false}, {"", false}} {
		before, _ := os.ReadFile(f.Name())
		log := New(f, Options{Getenv: func(key string) string {
			if key != "JOURNAL_STREAM" {
				t.Errorf("asked for %s", key)
			}
			return c.stream
		}})
		log.Error("x")
		after, _ := os.ReadFile(f.Name())
		if got := strings.HasPrefix(string(after[len(before):]), "<3>level=ERROR"); got != c.want {
			t.Errorf("JOURNAL_STREAM=%q: %s", c.stream, after[len(before):])
		}
	}
	if isJournal(&bytes.Buffer{}, "1:2") {
		t.Error("a buffer is no stream")
	}
}

// lines counts writes that are not one whole line.
type lines struct {
	mu     sync.Mutex
	broken int
	n      int
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	if !bytes.HasSuffix(b, []byte("\n")) || bytes.Count(b, []byte("\n")) != 1 {
		l.broken++
	}
	return len(b), nil
}

func TestManyWriteWholeLines(t *testing.T) {
	var out lines
	log := slog.New(newHandler(&out, Options{}, true))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				log.With("worker", i).Info("two\nlines")
			}
		})
	}
	wg.Wait()
	if out.n != 800 || out.broken != 0 {
		t.Errorf("%d writes, %d of them not one line", out.n, out.broken)
	}
}

func TestAFailedWriteIsTold(t *testing.T) {
	h := newHandler(failing{}, Options{}, false)
	if err := h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "x", 0)); err == nil {
		t.Error("no error")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func BenchmarkLine(b *testing.B) {
	var out lines
	log := New(&out, Options{})
	for b.Loop() {
		log.Info("replicated", "run", 7, "vm", "web", "took", time.Second)
	}
}
