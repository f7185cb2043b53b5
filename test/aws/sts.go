package aws

import "encoding/xml"

// doSTS serves GetCallerIdentity, which needs no permission.
func (c *call) doSTS() (*reply, *apiError) {
	p := c.params
	if p.action != "GetCallerIdentity" || p.values.Get("Version") != stsVersion {
		return nil, &apiError{status: 400, code: "InvalidAction", message: "Could not find operation " + p.action + " for version " + p.values.Get("Version")}
	}
	type result struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	}
	return c.xmlReply("GetCallerIdentityResponse", stsNamespace, struct {
		Result    result `xml:"GetCallerIdentityResult"`
		RequestID string `xml:"ResponseMetadata>RequestId"`
	}{result{c.e.userARN(), "AIDAEXAMPLEEXAMPLEEXA", c.e.opt.AccountID}, c.requestID}), nil
}

func stsError(err *apiError, requestID string) *reply {
	kind := "Sender"
	if err.status >= 500 {
		kind = "Receiver"
	}
	type item struct {
		Type    string
		Code    string
		Message string
	}
	body, _ := xml.Marshal(struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
		Error     item
		RequestID string `xml:"RequestId"`
	}{Error: item{kind, err.code, err.message}, RequestID: requestID})
	return &reply{status: err.status, body: body, header: map[string]string{"Content-Type": "text/xml"}}
}
