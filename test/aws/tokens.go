package aws

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// Lifetimes of tokens: block tokens as captured (the documentation says seven
// days), page tokens as documented.
const (
	blockTokenLife = 585000 * time.Second
	pageTokenLife  = 60 * time.Minute
)

// tokenMaker signs what it gives out, so that a token is good only for the
// thing it names; a new key makes all older tokens invalid.
type tokenMaker struct {
	mu  sync.RWMutex
	key []byte
}

func newTokenMaker() *tokenMaker {
	t := &tokenMaker{}
	t.rotate()
	return t
}

func (t *tokenMaker) rotate() {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.key = key
}

// make returns expiry (8 bytes), value (8) and MAC (16) in URL-safe base64.
func (t *tokenMaker) make(scope string, value int64, expiry time.Time) string {
	raw := make([]byte, 16, 32)
	binary.BigEndian.PutUint64(raw, uint64(expiry.UnixNano()))
	binary.BigEndian.PutUint64(raw[8:], uint64(value))
	return base64.RawURLEncoding.EncodeToString(append(raw, t.mac(scope, raw)...))
}

func (t *tokenMaker) mac(scope string, raw []byte) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	h := hmac.New(sha256.New, t.key)
	h.Write([]byte(scope))
	h.Write(raw)
	return h.Sum(nil)[:16]
}

// open checks a token for scope at now and returns its value.
func (t *tokenMaker) open(token, scope string, now time.Time) (value int64, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 32 || !hmac.Equal(raw[16:], t.mac(scope, raw[:16])) {
		return 0, false
	}
	if now.UnixNano() >= int64(binary.BigEndian.Uint64(raw)) {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(raw[8:])), true
}
