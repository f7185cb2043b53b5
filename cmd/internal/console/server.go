package console

import (
	"log/slog"
	"net/http"
	"time"

	"snapferry/schedule"
)

// Config is what a Server needs. Backend is all that must be set.
type Config struct {
	Backend Backend
	// Launches is what launches are asked of, the same value as Backend as a
	// rule; nil refuses them.
	Launches LaunchBackend
	// Tokens let their holders in. Without any (and without Local) nobody gets
	// further than the health checks.
	Tokens []Token
	// Local is the token that the service itself makes for the command line on
	// the same machine; the zero value is none.
	Local Token

	// Ready says why the service cannot do its work yet, nil when it can.
	Ready func() error
	// Metrics answers /metrics, to viewers, or to whoever asks if OpenMetrics.
	Metrics     http.Handler
	OpenMetrics bool
	// Web answers every path that is not the API's. It finds out with ActorOf
	// who asks; without an actor it should serve no more than the way to log
	// in. Methods other than GET and HEAD reach it from operators alone.
	Web http.Handler

	Version   string
	Log       *slog.Logger     // nil logs nothing
	Now       func() time.Time // nil is time.Now
	RateLimit RateLimit        // the zero value is DefaultRateLimit
	// Poll is how often streams look for news; 0 is a second.
	Poll time.Duration
}

// RateLimit bounds the requests of one token.
type RateLimit struct {
	PerSecond float64
	Burst     int
}

// DefaultRateLimit: a page of the console asks for ten things at once and then
// for two a second; a script that pages through 2,000 VMs needs twenty
// requests. Ten browsers on one token stay below it, a loop gone wild does not.
func DefaultRateLimit() RateLimit { return RateLimit{PerSecond: 50, Burst: 200} }

// Server answers the API under /api/v1, /healthz, /readyz, /metrics, /login and
// /logout, and leaves every other path to Config.Web. It is an http.Handler;
// [Server.HTTP] wraps it in an http.Server with fitting time-outs.
type Server struct {
	config   Config
	tokens   tokens
	sessions *sessions
	attempts *attempts
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
	streams  *streams
}

// New builds a Server. It holds goroutines only while somebody reads a stream;
// Close ends those.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.RateLimit == (RateLimit{}) {
		c.RateLimit = DefaultRateLimit()
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	s := &Server{
		config:   c,
		tokens:   newTokens(c.Tokens, c.Local, c.RateLimit),
		sessions: newSessions(c.Now),
		attempts: newAttempts(c.Now),
		origin:   http.NewCrossOriginProtection(),
		streams:  newStreams(c.Backend, c.Poll, c.Log),
	}
	s.mux = s.routes()
	return s
}

// Close ends the streams, so that a server that shuts down need not wait for
// their readers. The other requests go on.
func (s *Server) Close() { s.streams.close() }

// HTTP is an http.Server with time-outs that streams and uploads get along
// with; shutting it down ends the streams.
func (s *Server) HTTP() *http.Server {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second, // a slow client must not hold a connection by its header
		ReadTimeout:       2 * time.Minute,  // 16 MiB of CSV over 1 Mbit/s
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	h.RegisterOnShutdown(s.Close)
	return h
}

// ServeHTTP makes it an http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	s.mux.ServeHTTP(w, r)
}

// secure sets what holds for every answer. There is no
// Strict-Transport-Security: it would bind every other port of the host too.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: browsers would then send "Origin: null" with forms.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// roleOpen marks what needs no token.
const roleOpen schedule.Role = ""
