package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// snippet is the first block of a language in the documentation that has a word
// in it.
func snippet(t *testing.T, language, word string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "```"+language+"\n")[1:] {
		if code, _, ok := strings.Cut(block, "```"); ok && strings.Contains(code, word) {
			return code
		}
	}
	t.Fatalf("no %s with %q in the documentation", language, word)
	return ""
}

const pythonRig = `
import json, sys
from email.message import Message
for case in json.load(sys.stdin):
    h = Message()
    for k, v in case["header"].items():
        h[k] = v[0]
    print("yes" if verify(case["secret"], h, case["body"].encode()) else "no")
`

const goRig = `package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	var cases []struct {
		Secret, Body string
		Header       http.Header
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	for _, c := range cases {
		fmt.Println(map[bool]string{true: "yes", false: "no"}[verify(c.Secret, c.Header, []byte(c.Body))])
	}
}
`

// What the documentation says of verifying does so.
func TestTheDocumentedVerificationWorks(t *testing.T) {
	type check struct {
		Secret string      `json:"secret"`
		Body   string      `json:"body"`
		Header http.Header `json:"header"`
		want   string
	}
	made := func(secret Secret, at time.Time, change func(*check), want string) check {
		key, err := secret.key()
		if err != nil {
			t.Fatal(err)
		}
		c := check{Secret: string(secret), Body: `{"text":"ü"}`, Header: http.Header{}, want: want}
		sign(c.Header, key, "evt_1_ab", at, []byte(c.Body))
		change(&c)
		return c
	}
	none := func(*check) {}
	plain, coded := Secret("correct horse battery"), Secret("whsec_"+base64.StdEncoding.EncodeToString([]byte("0123456789abcdef")))
	cases := []check{
		made(plain, time.Now(), none, "yes"), made(coded, time.Now(), none, "yes"),
		made(plain, time.Now().Add(-time.Hour), none, "no"),
		made(plain, time.Now(), func(c *check) { c.Body += " " }, "no"),
		made(plain, time.Now(), func(c *check) { c.Header.Set(headerID, "evt_2_ab") }, "no"),
		made(plain, time.Now(), func(c *check) { c.Secret = "wrong" }, "no"),
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, l := range []struct {
		tool string
		args []string
	}{
		{"python3", []string{write("verify.py", snippet(t, "python", "def verify")+pythonRig)}},
		{"go", []string{"run", write("verify.go", goRig+snippet(t, "go", "func verify"))}},
	} {
		t.Run(l.tool, func(t *testing.T) {
			if _, err := exec.LookPath(l.tool); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(l.tool, l.args...)
			cmd.Stdin, cmd.Dir = bytes.NewReader(input), dir
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			got := strings.Fields(string(out))
			for i, c := range cases {
				if i >= len(got) || got[i] != c.want {
					t.Errorf("case %d: %v, want %s", i, got, c.want)
				}
			}
		})
	}
}

func TestTheDocumentedPayloadIsTheRealOne(t *testing.T) {
	var doc, real map[string]any
	if err := json.Unmarshal([]byte(snippet(t, "json", "detail-type")), &doc); err != nil {
		t.Fatal(err)
	}
	e := event(1, "REPLICATION_STALLED")
	e.Run, e.Actor, e.Data = 1, "a1", json.RawMessage(`{}`)
	_, body, err := encode(e, "a1")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &real); err != nil {
		t.Fatal(err)
	}
	for _, part := range []func(map[string]any) map[string]any{
		func(m map[string]any) map[string]any { return m },
		func(m map[string]any) map[string]any { return m["detail"].(map[string]any) },
	} {
		for key := range part(doc) {
			if _, ok := part(real)[key]; !ok {
				t.Errorf("%s is documented and not sent", key)
			}
		}
		for key := range part(real) {
			if _, ok := part(doc)[key]; !ok {
				t.Errorf("%s is sent and not documented", key)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !strings.Contains(string(text), "`"+string(k)+"`") {
			t.Errorf("%s is not documented", k)
		}
	}
}
