package logging

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretKeys are names of attributes whose values are secrets, in lower case and
// without what separates words: a name that ends so is one too.
var secretKeys = []string{
	"password", "passwd", "passphrase", "secret", "token", "authorization", "cookie", "apikey", "accesskey",
	"secretkey", "secretaccesskey", "privatekey", "signature", "sessionid",
	"xamzsignature", "xamzcredential", "xamzsecuritytoken",
}

var separators = strings.NewReplacer("-", "", "_", "", ".", "", " ", "")

// isSecretKey reports whether an attribute of this name holds a secret.
func isSecretKey(key string) bool {
	key = separators.Replace(strings.ToLower(key))
	for _, s := range secretKeys {
		if strings.HasSuffix(key, s) {
			return true
		}
	}
	return false
}

// redactAttr hides the value of a secret's attribute. Numbers and yes or no are
// none.
func redactAttr(a slog.Attr) slog.Attr {
	if !isSecretKey(a.Key) {
		return plain(a)
	}
	switch a.Value.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindDuration, slog.KindTime:
		return a
	case slog.KindString:
		if a.Value.String() == "" {
			return a
		}
	}
	return slog.String(a.Key, Redacted)
}

// plain renders values whose fields would say too much.
func plain(a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case *url.URL:
		if v != nil {
			return slog.String(a.Key, v.Redacted())
		}
	case http.Header:
		h := v.Clone()
		for key := range h {
			if isSecretKey(key) || strings.EqualFold(key, "Set-Cookie") {
				h[key] = []string{Redacted}
			}
		}
		return slog.Any(a.Key, h)
	}
	return a
}

// What is hidden wherever in a line it stands. Both formats quote: a backslash
// and what follows it belong to the value, a bare quote ends it.
var (
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#"\\]|\\.)+@`)
	// amz are a presigned URL's parameters and the headers of the same names.
	amz = regexp.MustCompile(`(?i)(X-Amz-(?:Signature|Credential|Security-Token)(?:["'\\]*\s*[:=]\s*[\["'\\]*|%3D))[^&\s"'\\,;\]]+`)
	// query are parameters of URLs that are secrets by custom.
	query = regexp.MustCompile(`(?i)([?&](?:access_token|token|sig|signature|api_?key|password|secret)=)[^&\s"'\\]+`)
	// header is what proves who asks.
	header = regexp.MustCompile(`(?i)\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}`)
	// sigv4 is the Authorization header of AWS.
	sigv4 = regexp.MustCompile(`(\b(?:Credential|Signature)=)[A-Za-z0-9/_-]{16,}`)
	// variable are environment variables that hold secrets.
	variable = regexp.MustCompile(`\b((?:AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|PGPASSWORD|GOVC_PASSWORD)=)[^\s"'\\]+`)
)

// rules are what is looked for, each behind the letters without which it cannot
// be there: most lines have none of them.
var rules = []struct {
	marks []string // in lower case
	what  *regexp.Regexp
	with  string
}{
	{[]string{"://"}, userinfo, "${1}" + Redacted + "@"},
	{[]string{"x-amz-"}, amz, "${1}" + Redacted},
	{[]string{"?", "&"}, query, "${1}" + Redacted},
	{[]string{"bearer", "basic"}, header, "${1}" + Redacted},
	{[]string{"credential=", "signature="}, sigv4, "${1}" + Redacted},
	{[]string{"_access_key=", "_token=", "password="}, variable, "${1}" + Redacted},
}

// redactLine hides secrets in a formatted line, or in any other text.
func redactLine(text []byte) []byte {
	lower := bytes.ToLower(text)
	for _, r := range rules {
		for _, mark := range r.marks {
			if bytes.Contains(lower, []byte(mark)) {
				text = r.what.ReplaceAll(text, []byte(r.with))
				break
			}
		}
	}
	return text
}

// Redact is text without secrets in URLs, headers and variables.
func Redact(text string) string { return string(redactLine([]byte(text))) }
