package metrics

import (
	"net/http"
	"strings"
	"time"
)

// Requests counts what next answers, by the pattern that an http.ServeMux in it
// found. It must get the request that the mux gets, not a copy: nothing between
// the two may replace it.
func (m *Metrics) Requests(next http.Handler) http.Handler {
	if m == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w}
		defer func() {
			took := time.Since(began)
			if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
				took = 0 // as long as its reader likes
			}
			m.ObserveRequest(routeOf(r.Pattern), r.Method, seen.code(), took)
		}()
		next.ServeHTTP(seen, r)
	})
}

// routeOf is a pattern without its method, which is a label of its own.
func routeOf(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		return path
	}
	return pattern
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the final status; those below 200 come before it.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
