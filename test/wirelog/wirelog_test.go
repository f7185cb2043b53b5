package wirelog_test

import (
	"bytes"
	"strings"
	"testing"

	"snapferry/test/wirelog"
)

func TestSecretsAreTakenOut(t *testing.T) {
	for _, c := range []string{
		`<Login xmlns="urn:vim25"><_this>SessionManager</_this><userName>HIDE</userName><password>HIDE&amp;HIDE</password></Login>`,
		`<vim25:password xsi:type="x">HIDE
HIDE</vim25:password>`,
		"Authorization: AWS4-HMAC-SHA256 Credential=HIDE, Signature=HIDE\r\nHost: example.com",
		`Set-Cookie: vmware_soap_session="HIDE"; Path=/`,
		"Cookie: vmware_soap_session=HIDE",
		"GET https://user:HIDE@vcenter.example.com/sdk",
		"https://x/?X-Amz-Signature=HIDE&b=1",
		"key AKIAHIDEHIDEHIDEHIDE is expired",
		"X-Amz-Security-Token: HIDE",
		"<key>52a1b2c3-HIDE-d4e5-f6a7-b8c9d0e1f2a3</key>",
	} {
		c = strings.Replace(c, "52a1b2c3-HIDE-", "52a1b2c3-0000-", 1)
		got := string(wirelog.Redact([]byte(c)))
		if strings.Contains(got, "HIDE") || strings.Contains(got, "d4e5") || !strings.Contains(got, "[redacted]") {
			t.Errorf("%s\nbecame\n%s", c, got)
		}
	}
}

func TestWhatMattersStays(t *testing.T) {
	for _, c := range []string{
		"<changeId>52 de c0 d9/4</changeId><key>2000</key>",
		"PutSnapshotBlock put block 7 of snapshot snap-1 took 12ms",
		"<fileName>[ds1] app01/app01.vmdk</fileName>",
	} {
		if got := string(wirelog.Redact([]byte(c))); got != c {
			t.Errorf("%s became %s", c, got)
		}
	}
}

func TestPartsAreWrittenWhole(t *testing.T) {
	var b bytes.Buffer
	l := wirelog.New(&b)
	f := l.NewFile("1-0001.req.xml")
	for _, s := range []string{"<pass", "word>HI", "DE</password>"} { // a secret in pieces
		if _, err := f.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() > 0 {
		t.Error("written before it was complete")
	}
	_ = f.Close()
	if got := b.String(); strings.Contains(got, "DE<") || !strings.Contains(got, "1-0001.req.xml") {
		t.Errorf("got %q", got)
	}
}
