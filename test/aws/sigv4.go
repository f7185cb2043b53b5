package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Names of services in SigV4 credential scopes.
const (
	serviceEBS = "ebs"
	serviceEC2 = "ec2"
	serviceSTS = "sts"
	serviceSSM = "ssm"
)

const (
	algorithm       = "AWS4-HMAC-SHA256"
	unsignedPayload = "UNSIGNED-PAYLOAD"
	amzTime         = "20060102T150405Z"
	maxSkew         = 5 * time.Minute
)

type credentials struct{ keyID, secret, session string }

// signature is the parsed Authorization header.
type signature struct {
	keyID, date, region, service string
	headers                      []string
	mac                          string
}

// parseSignature returns nil if the request carries no SigV4 header.
func parseSignature(r *http.Request) *signature {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return nil
	}
	s := &signature{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "Credential":
			scope := strings.Split(v, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return nil
			}
			s.keyID, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			s.headers = strings.Split(v, ";")
		case "Signature":
			s.mac = v
		}
	}
	if s.keyID == "" || s.mac == "" || !slices.Contains(s.headers, "host") {
		return nil
	}
	return s
}

// signingKeys caches the derived key, which holds for one day and service.
type signingKeys struct{ m sync.Map }

func (k *signingKeys) get(secret string, s *signature) []byte {
	id := secret + "/" + s.date + "/" + s.region + "/" + s.service
	if key, ok := k.m.Load(id); ok {
		return key.([]byte)
	}
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request"} {
		key = mac(key, part)
	}
	k.m.Store(id, key)
	return key
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// authenticate checks the signature, the credentials and their age.
func (c *call) authenticate(s *signature) *apiError {
	if s == nil {
		return c.authError(authMissing, "")
	}
	e := c.e
	e.mu.RLock()
	creds, expired, ended := e.creds, e.expired, e.ended[s.keyID]
	e.mu.RUnlock()
	if ended && s.keyID != creds.keyID {
		return c.expiredToken()
	}
	if s.keyID != creds.keyID {
		return c.authError(authUnknownKey, "")
	}
	stamp := c.r.Header.Get("X-Amz-Date")
	signed, err := time.Parse(amzTime, stamp)
	if err != nil || !strings.HasPrefix(stamp, s.date) || (s.region != e.opt.Region && s.service != serviceSTS) {
		return c.authError(authMismatch, "")
	}
	want := hex.EncodeToString(mac(e.keys.get(creds.secret, s), stringToSign(s, stamp, c.canonical(s))))
	if subtle.ConstantTimeCompare([]byte(want), []byte(s.mac)) != 1 {
		return c.authError(authMismatch, "")
	}
	if now := e.wireNow(); signed.Before(now.Add(-maxSkew)) || signed.After(now.Add(maxSkew)) {
		return c.authError(authSkew, skewText(signed, now))
	}
	if c.r.Header.Get("X-Amz-Security-Token") != creds.session {
		return c.authError(authUnknownKey, "")
	}
	if expired {
		return c.expiredToken()
	}
	return nil
}

func skewText(signed, now time.Time) string {
	at, is := signed.UTC().Format(amzTime), now.UTC().Format(amzTime)
	if signed.Before(now) {
		return fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)", at, now.Add(-maxSkew).UTC().Format(amzTime), is)
	}
	return fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)", at, now.Add(maxSkew).UTC().Format(amzTime), is)
}

func stringToSign(s *signature, stamp, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	return strings.Join([]string{algorithm, stamp, scope, hex.EncodeToString(sum[:])}, "\n")
}

// canonical is the canonical request of SigV4.
func (c *call) canonical(s *signature) string {
	var b strings.Builder
	b.WriteString(c.r.Method + "\n")
	path := c.r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	b.WriteString(strings.ReplaceAll(awsEscape(path), "%2F", "/") + "\n")
	b.WriteString(canonicalQuery(c.r.URL.RawQuery) + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + c.signedHeader(name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + c.payloadHash())
	return b.String()
}

func (c *call) signedHeader(name string) string {
	switch name {
	case "host":
		return c.r.Host
	case "content-length":
		return strconv.FormatInt(c.r.ContentLength, 10)
	}
	values := c.r.Header.Values(name)
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(out, ",")
}

// payloadHash is what the signature must have covered: the body, except that
// PutSnapshotBlock may leave it out. What the client claims in
// x-amz-content-sha256 is never believed.
func (c *call) payloadHash() string {
	if c.op == opPut && c.r.Header.Get("X-Amz-Content-Sha256") == unsignedPayload {
		return unsignedPayload
	}
	sum := c.sum()
	return hex.EncodeToString(sum[:])
}

// sum is the SHA-256 of the body, computed once.
func (c *call) sum() [32]byte {
	if !c.digested {
		c.digest, c.digested = sha256.Sum256(c.body), true
	}
	return c.digest
}

func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return ""
	}
	var parts []string
	for k, vs := range values {
		for _, v := range vs {
			parts = append(parts, awsEscape(k)+"="+awsEscape(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// awsEscape percent-encodes all but the unreserved characters of RFC 3986.
func awsEscape(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		ch := s[i]
		if ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || strings.IndexByte("-_.~", ch) >= 0 {
			b.WriteByte(ch)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[ch>>4])
		b.WriteByte(hexDigits[ch&15])
	}
	return b.String()
}
