package console

import (
	"crypto/sha256"
	"crypto/subtle"

	"golang.org/x/time/rate"

	"snapferry/schedule"
)

// Token lets its holder in. Only its digest is kept.
type Token struct {
	Name   string
	Role   schedule.Role
	SHA256 [32]byte
}

// door is a token with what its requests may take.
type door struct {
	Token
	limit *rate.Limiter
}

type tokens []*door

func newTokens(given []Token, local Token, l RateLimit) (all tokens) {
	for _, t := range append(append([]Token(nil), given...), local) {
		if t.SHA256 == ([32]byte{}) || (t.Role != schedule.RoleViewer && t.Role != schedule.RoleOperator) {
			continue // no digest is a token that was not set, never one that lets in
		}
		all = append(all, &door{Token: t, limit: rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst)})
	}
	return all
}

// find looks for the door that a token opens. It takes the same time whichever
// it is and whether there is one.
func (ts tokens) find(secret string) *door {
	if secret == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	var found *door
	for _, t := range ts {
		if subtle.ConstantTimeCompare(sum[:], t.SHA256[:]) == 1 {
			found = t
		}
	}
	return found
}
