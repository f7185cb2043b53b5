package console_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapferry/cmd/internal/console"
)

// issue makes a certificate for the loopback, as PEM.
func issue(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "connector"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	must(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// serial connects and says whose certificate is in use.
func serial(t *testing.T, addr string, c *tls.Config) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, c)
	must(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestARenewedCertificateIsUsed(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert1, key1 := issue(t, 1)
	must(t, os.WriteFile(certFile, cert1, 0o600))
	must(t, os.WriteFile(keyFile, key1, 0o600))
	log := &safeBuffer{}
	console.SetLookEvery(t, 0)
	l, err := console.Listen("127.0.0.1:0", console.ListenOptions{Cert: certFile, Key: keyFile, Log: slog.New(slog.NewTextHandler(log, nil))})
	must(t, err)
	r := newRig(t).seed()
	r.serve(l)
	addr := l.Addr().String()
	any := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if n := serial(t, addr, any); n != 1 {
		t.Fatalf("serial %d", n)
	}
	client, err := console.NewClient(console.ClientConfig{Address: "https://" + addr, Token: viewer, CACerts: certFile})
	must(t, err)
	defer client.Close()
	if _, err := client.Overview(t.Context()); err != nil {
		t.Errorf("over TLS: %v", err)
	}

	cert2, key2 := issue(t, 2)
	replace := func(file string, text []byte) {
		must(t, os.WriteFile(file+".new", text, 0o600))
		must(t, os.Rename(file+".new", file))
	}
	replace(certFile, cert2) // the key is not there yet
	if n := serial(t, addr, any); n != 1 {
		t.Errorf("half renewed: serial %d", n)
	}
	if !strings.Contains(log.String(), "old certificate stays") {
		t.Errorf("log: %s", log)
	}
	replace(keyFile, key2)
	if n := serial(t, addr, any); n != 2 {
		t.Errorf("renewed: serial %d", n)
	}
	must(t, os.Remove(keyFile))
	if n := serial(t, addr, any); n != 2 {
		t.Errorf("the key is gone: serial %d", n)
	}
	if bytes.Contains([]byte(log.String()), key2[40:80]) {
		t.Error("the key is in the log")
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if conn, err := tls.Dial("tcp", addr, old); err == nil {
		t.Error("TLS 1.1 is served", conn.Close())
	}
	conn, err := tls.Dial("tcp", addr, any)
	must(t, err)
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		t.Errorf("protocol %q", p)
	}
	must(t, conn.Close())
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	cert, _ := issue(t, 1)
	certFile := filepath.Join(dir, "cert.pem")
	must(t, os.WriteFile(certFile, cert, 0o600))
	for _, o := range []console.ListenOptions{{Cert: certFile, Key: certFile}, {Cert: filepath.Join(dir, "none"), Key: certFile}} {
		if l, err := console.Listen("127.0.0.1:0", o); err == nil {
			t.Error("listens", l.Close())
		}
	}
	if l, err := console.Listen("nowhere", console.ListenOptions{}); err == nil {
		t.Error("listens", l.Close())
	}
}

func TestSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen := func() (net.Listener, error) { return console.Listen("unix:"+path, console.ListenOptions{}) }
	l, err := listen()
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if second, err := listen(); err == nil || !strings.Contains(err.Error(), "another connector") {
		t.Errorf("a second one: %v %v", second, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	must(t, l.Close())
	l, err = listen()
	must(t, err)
	must(t, l.Close())
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if _, err := listen(); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file: %q, %v", text, err)
	}
}
