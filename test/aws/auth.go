package aws

// authProblem is why a request is not let in.
type authProblem int

const (
	authMissing authProblem = iota
	authUnknownKey
	authMismatch
	authSkew
)

const (
	textMissing    = "Missing Authentication Token"
	textUnknownKey = "The security token included in the request is invalid."
	textMismatch   = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	textExpired    = "The security token included in the request is expired"
	textEC2Auth    = "AWS was not able to validate the provided access credentials"
)

// authError gives a problem the form that each service has for it.
func (c *call) authError(p authProblem, text string) *apiError {
	if c.service == serviceEC2 {
		switch p {
		case authMissing:
			return &apiError{status: 400, code: "MissingAuthenticationToken", message: "Request must contain either a valid (registered) AWS access key ID or X.509 certificate."}
		case authSkew:
			return &apiError{status: 400, code: "RequestExpired", message: "Request has expired."}
		}
		return &apiError{status: 401, code: "AuthFailure", message: textEC2Auth}
	}
	codes := map[authProblem]string{
		authMissing: "MissingAuthenticationTokenException", authUnknownKey: "UnrecognizedClientException",
		authMismatch: "InvalidSignatureException", authSkew: "InvalidSignatureException",
	}
	if c.service == serviceSTS {
		codes = map[authProblem]string{
			authMissing: "MissingAuthenticationToken", authUnknownKey: "InvalidClientTokenId",
			authMismatch: "SignatureDoesNotMatch", authSkew: "SignatureDoesNotMatch",
		}
	}
	if text == "" {
		text = map[authProblem]string{authMissing: textMissing, authUnknownKey: textUnknownKey, authMismatch: textMismatch}[p]
	}
	return &apiError{status: 403, code: codes[p], message: text}
}

// expiredToken is the answer to credentials whose session has ended.
func (c *call) expiredToken() *apiError {
	switch c.service {
	case serviceEBS:
		return &apiError{status: 403, code: "ExpiredTokenException", message: textExpired}
	case serviceSSM:
		return &apiError{status: 400, code: "ExpiredTokenException", message: textExpired}
	case serviceSTS:
		return &apiError{status: 403, code: "ExpiredToken", message: textExpired}
	}
	return &apiError{status: 400, code: "RequestExpired", message: "Request has expired."}
}

func (e *Emulator) userARN() string { return "arn:aws:iam::" + e.opt.AccountID + ":user/snapferry" }

// ebsDenied is AccessDeniedException if the action is denied.
func (c *call) ebsDenied(action string) *apiError {
	if !c.e.denied(action) {
		return nil
	}
	text := "User: " + c.e.userARN() + " is not authorized to perform: " + action + " because no identity-based policy allows the " + action + " action"
	return &apiError{status: 403, code: "AccessDeniedException", message: text}
}

// kmsDenied is the error where the key may not be used for an action.
func (c *call) kmsDenied(action string) *apiError {
	if err := c.ebsDenied(action); err != nil {
		err.reason = "DEPENDENCY_ACCESS_DENIED"
		return err
	}
	return nil
}
