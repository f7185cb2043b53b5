package console_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"snapferry/cmd/internal/console"
)

// FuzzQueries: whatever comes, reading a query never panics, refuses with 400,
// and what it accepts reads back as it was.
func FuzzQueries(f *testing.F) {
	for _, s := range []string{
		"", "text=a&sort=lag&desc=true&offset=5&limit=100", "replication=stalled&lifecycle=testing&policy=p&wave=w+1", "vm=vc:vm-1&state=done&active=true&before=9&limit=500",
		"limit=1001", "limit=007", "desc=false", "text=%ff", "a;b", "text=a&text=b", "before=9223372036854775807",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		roundTrip(t, v, console.ParseVMQuery, console.VMValues)
		roundTrip(t, v, console.ParseRunQuery, console.RunValues)
	})
}

func roundTrip[Q any](t *testing.T, v url.Values, parse func(url.Values) (Q, error), values func(Q) url.Values) {
	t.Helper()
	q, err := parse(v)
	var refused *console.Error
	if err != nil {
		if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
			t.Fatalf("refused with %v", err)
		}
		return
	}
	again, err := parse(values(q))
	if err != nil || !cmp.Equal(q, again) {
		t.Fatalf("%+v became %+v, %v", q, again, err)
	}
}

// FuzzPaths: no path or header makes the server fail inside, or lets nobody in.
func FuzzPaths(f *testing.F) {
	f.Add("GET", "/api/v1/vms/x:y", "Bearer x", "text/event-stream")
	f.Add("POST", "/api/v1/vms/%2e%2e/sync", "bearer  ", "")
	f.Add("PUT", "/api/v1/waves/%2f", "Basic x", "*/*")
	f.Add("POST", "/login", "", ",;")
	server := console.New(config(&stub{}))
	f.Fuzz(func(t *testing.T, method, path, authorization, accept string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Path == "" || u.Path[0] != '/' {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Method, r.URL = method, u
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		open := u.Path == "/healthz" || u.Path == "/readyz" || u.Path == "/logout"
		if w.Code >= 500 || (w.Code < 300 && !open) {
			t.Fatalf("%q %q: %d %s", method, path, w.Code, w.Body)
		}
	})
}
