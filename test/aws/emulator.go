package aws

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Emulator is a running emulator. All its methods may be called by many
// goroutines at once, and while requests are served.
type Emulator struct {
	opt    Options
	store  *store
	server *http.Server
	url    string
	caPEM  []byte
	limits limits
	tokens *tokenMaker
	keys   signingKeys

	closed    chan struct{}
	active    sync.RWMutex // held for reading by each request under way
	closeOnce sync.Once
	closeErr  error
	pages     atomic.Int64 // listing pages served, for OddPages

	mu         sync.RWMutex
	snapshots  map[string]*snapshot
	cloud      *cloud
	started    map[string]startRecord // by client token
	calls      map[string]int
	misuse     []string
	expired    bool
	skew       time.Duration
	encDefault bool
	kmsDefault string
	deny       func(action string) bool
	creds      credentials
	ended      map[string]bool // key IDs whose session has ended
}

// New starts an emulator and returns when it listens.
func New(opt Options) (*Emulator, error) {
	opt = opt.withDefaults()
	st, err := newStore(opt.Dir)
	if err != nil {
		return nil, err
	}
	e := &Emulator{
		opt: opt, store: st, limits: newLimits(opt), tokens: newTokenMaker(),
		closed: make(chan struct{}), encDefault: opt.EncryptionByDefault, kmsDefault: opt.DefaultKMSKey,
		snapshots: map[string]*snapshot{}, cloud: newCloud(),
		started: map[string]startRecord{}, calls: map[string]int{},
		creds: credentials{opt.AccessKeyID, opt.SecretAccessKey, opt.SessionToken},
	}
	if err := errors.Join(e.seedNetwork(), e.listen()); err != nil {
		return nil, errors.Join(err, st.close())
	}
	return e, nil
}

func (e *Emulator) listen() error {
	ln, err := net.Listen("tcp", e.opt.Listen)
	if err != nil {
		return fmt.Errorf("listen for the AWS emulator: %w", err)
	}
	host, _, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return fmt.Errorf("read the emulator's address: %w", err)
	}
	scheme := "http"
	if e.opt.TLS {
		cert, ca, err := newCertificate(host)
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		e.caPEM, scheme = ca, "https"
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	}
	e.url = scheme + "://" + ln.Addr().String()
	e.server = &http.Server{
		Handler: e, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		// HTTP/1.1 only: a 400 has to close the connection.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() { _ = e.server.Serve(ln) }()
	return nil
}

// Close stops the emulator, cutting what is under way, and removes its data.
func (e *Emulator) Close() error {
	e.closeOnce.Do(func() {
		close(e.closed)
		err := e.server.Close()
		// Handlers may be writing to the store: let them end before it goes.
		e.active.Lock()
		defer e.active.Unlock()
		e.closeErr = errors.Join(err, e.store.close())
	})
	return e.closeErr
}

// URL is the base URL of the listener that serves all services.
func (e *Emulator) URL() string { return e.url }

// EBSEndpoint is the endpoint URL of EBS direct.
func (e *Emulator) EBSEndpoint() string { return e.url }

// EC2Endpoint is the endpoint URL of EC2.
func (e *Emulator) EC2Endpoint() string { return e.url }

// SSMEndpoint is the endpoint URL of SSM.
func (e *Emulator) SSMEndpoint() string { return e.url }

// STSEndpoint is the endpoint URL of STS.
func (e *Emulator) STSEndpoint() string { return e.url }

// CACert is the PEM certificate of the authority to trust; nil without TLS.
func (e *Emulator) CACert() []byte { return e.caPEM }

// Env returns the environment (KEY=value) that makes the SDKs and the AWS
// command line talk to this emulator. With TLS the caller adds AWS_CA_BUNDLE,
// the name of a file that holds CACert.
func (e *Emulator) Env() []string {
	env := []string{
		"AWS_ENDPOINT_URL_EBS=" + e.url, "AWS_ENDPOINT_URL_EC2=" + e.url, "AWS_ENDPOINT_URL_STS=" + e.url,
		"AWS_ENDPOINT_URL_SSM=" + e.url,
		"AWS_REGION=" + e.opt.Region, "AWS_DEFAULT_REGION=" + e.opt.Region,
		"AWS_ACCESS_KEY_ID=" + e.opt.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + e.opt.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true",
	}
	if e.opt.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+e.opt.SessionToken)
	}
	return env
}

func (e *Emulator) now() time.Time { return e.opt.Now() }

// lookup finds a snapshot that this account may see.
func (e *Emulator) lookup(id string) *snapshot {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.snapshots[id]
}

// newID makes a resource ID of the service's long form.
func newID(prefix string) string {
	var b [9]byte
	_, _ = rand.Read(b[:])
	return prefix + "-0" + hex.EncodeToString(b[:])[1:17]
}

func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
