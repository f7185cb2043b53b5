package ebs

import (
	"errors"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

// cleaned is an error whose text has lost what nobody should read: block
// tokens in URLs, the canonical request (which holds the session token) that
// some services quote, and what a credential_process printed.
type cleaned struct {
	text string
	err  error
}

func (c *cleaned) Error() string { return c.text }
func (c *cleaned) Unwrap() error { return c.err }

var (
	urlQuery  = regexp.MustCompile(`(https?://[^\s"?]+)\?[^\s"]+`)
	urlUser   = regexp.MustCompile(`(https?://)[^\s"/@]+@`)
	tokenText = regexp.MustCompile(`(?i)(x-amz-security-token|blockToken|Signature|SecretAccessKey|SessionToken)(["']?\s*[:=]\s*["']?)[^\s"',&]+`)
)

// longestText bounds an error's text: the SDK quotes bodies it cannot read.
const longestText = 500

// clean is err without secrets; nil stays nil.
func clean(err error) error {
	if err == nil {
		return nil
	}
	var process *processcreds.ProviderError
	if errors.As(err, &process) && strings.Contains(process.Error(), "parse failed of process output") {
		// Its text is all that the process printed, the secret key included.
		return &cleaned{"credential_process printed something that is not the JSON of credentials", err}
	}
	text := err.Error()
	for _, mark := range []string{"The Canonical String", "The String-to-Sign", "Canonical request"} {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i]
		}
	}
	text = urlQuery.ReplaceAllString(text, "$1")
	text = urlUser.ReplaceAllString(text, "$1")
	text = tokenText.ReplaceAllString(text, "$1$2…")
	text = strings.Join(strings.Fields(text), " ")
	return &cleaned{cut(text, longestText), err}
}
