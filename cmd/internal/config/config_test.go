package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"snapferry/schedule"
	"snapferry/transfer"
)

// world is a system of its own in a temporary folder.
func world(t *testing.T, env ...string) System {
	t.Helper()
	home := t.TempDir()
	vars := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = strings.ReplaceAll(v, "~", home)
	}
	return System{Getenv: func(k string) string { return vars[k] }, Home: home, Etc: filepath.Join(home, "etc")}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const full = `
vcenter:
  url: vcenter.example.com
  user: svc
  passwordFile: /run/pw
  insecure: true
  caCerts: /etc/ca.pem
  knownHosts: /etc/known
  thumbprint: "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD"
aws:
  profile: backup
  region: eu-central-1
  endpoints: {ebs: "https://e", ec2: "https://c", sts: "https://s", ssm: "https://m"}
  caBundle: /etc/aws.pem
  putsPerSecond: 400
  getsPerSecond: 500.5
appliance: {id: ferry-1, vm: vm-7, sysfsDir: /s, devDir: /d, allowNFSStun: true}
retention: {last: 1, days: 2, daily: 3, weekly: 4, monthly: 5, timeZone: Europe/Berlin}
stateDir: /var/state
launch: {subnet: subnet-1, test.subnet: subnet-2, volumeIOPS: 4000, stopped: true}
convert: {folder: /var/convert, cloudInit: disable, keepNetwork: true, drivers: /srv/drivers}
transfer:
  reads: 8
  puts: 32
  gets: 16
  buffers: 100
  limit: 200MB/s
  cleanup: 20m
  maxFreeze: 4h
  audit: 99
  minFreeGiB: 7
  quiesce: try
  zeros: all
  encrypted: true
  kmsKey: alias/backup
  excludeDisk: [Hard disk 2]
  tags: {team: infra}
database: {url: "postgres://ferry@db/ferry", passwordFile: /run/db}
policies:
  - name: gold
    every: 15m
    timeZone: Europe/Berlin
    jitter: 30s
    blackout: [{days: mon-fri, from: "08:00", to: "18:00"}]
    bandwidth: [{days: sat, from: "00:00", to: "24:00", limit: 50MB/s}]
    retention: {last: 2, days: 3, daily: 4, weekly: 5, monthly: 6}
    quiesce: try
    zeros: all
    reader: hotadd
    exclude: [Hard disk 2]
    prove: {every: 168h}
    priority: 7
    match: [{name: "app*", folder: /DC0/vm/prod, pool: /p, tag: "dr:gold", attribute: owner=ops}]
  - {name: night, cron: "30 22 * * *"}
  - {name: follow, adaptive: {floor: 10m, ceiling: 4h}}
limits: {perVCenter: 1, perHost: 2, perDatastore: 3, perAppliance: 4, disks: 5, drafts: 6, putsPerSecond: 7}
server:
  listen: ":8980"
  cert: /etc/tls.crt
  key: /etc/tls.key
  plainHTTP: true
  tokens: [{name: ops, role: operator, sha256: ab}]
  openMetrics: true
webhooks: [{name: bus, url: "https://h", events: [REPLICATION_STALLED], secretFile: /run/hook, caCerts: /etc/h.pem}]
log: {format: json, level: debug}
history: {keep: 720h}
`

func TestParseKnowsEveryKey(t *testing.T) {
	got, err := Parse("f", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		VCenter: VCenter{URL: "vcenter.example.com", User: "svc", PasswordFile: "/run/pw", Insecure: true, CACerts: "/etc/ca.pem",
			KnownHosts: "/etc/known", Thumbprint: "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD"},
		AWS: AWS{Profile: "backup", Region: "eu-central-1", Endpoints: Endpoints{EBS: "https://e", EC2: "https://c", STS: "https://s", SSM: "https://m"},
			CABundle: "/etc/aws.pem", PutsPerSecond: 400, GetsPerSecond: 500.5},
		Appliance: Appliance{ID: "ferry-1", VM: "vm-7", SysfsDir: "/s", DevDir: "/d", AllowNFSStun: true},
		Retention: Retention{Last: 1, Days: 2, Daily: 3, Weekly: 4, Monthly: 5, TimeZone: "Europe/Berlin"},
		StateDir:  "/var/state",
		Launch:    schedule.Launch{"subnet": "subnet-1", "test.subnet": "subnet-2", "volumeIOPS": "4000", "stopped": "true"},
		Convert:   Convert{Folder: "/var/convert", CloudInit: "disable", KeepNetwork: true, Drivers: "/srv/drivers"},
		Transfer: Transfer{Reads: 8, Puts: 32, Gets: 16, Buffers: 100, Limit: 200e6, Cleanup: 20 * time.Minute, MaxFreeze: 4 * time.Hour, Audit: 99, MinFreeGiB: new(int64(7)), Quiesce: QuiesceTry,
			Zeros: ZerosAll, Encrypted: true, KMSKey: "alias/backup", ExcludeDisk: []string{"Hard disk 2"}, Tags: map[string]string{"team": "infra"}},
		Database: Database{URL: "postgres://ferry@db/ferry", PasswordFile: "/run/db"},
		Policies: []schedule.Policy{
			{
				Name: "gold", Every: schedule.Duration(15 * time.Minute), TimeZone: "Europe/Berlin", Jitter: new(schedule.Duration(30 * time.Second)),
				Blackout:  []schedule.Window{{Days: "mon-fri", From: "08:00", To: "18:00"}},
				Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{Days: "sat", From: "00:00", To: "24:00"}, Limit: 50e6}},
				Retention: transfer.Policy{Last: 2, Days: 3, Daily: 4, Weekly: 5, Monthly: 6}, Quiesce: "try", Zeros: "all", Reader: "hotadd",
				Exclude: []string{"Hard disk 2"}, Prove: &schedule.Prove{Every: schedule.Duration(168 * time.Hour)}, Priority: 7,
				Match: []schedule.Match{{Name: "app*", Folder: "/DC0/vm/prod", Pool: "/p", Tag: "dr:gold", Attribute: "owner=ops"}},
			},
			{Name: "night", Cron: "30 22 * * *"},
			{Name: "follow", Adaptive: &schedule.Adaptive{Floor: schedule.Duration(10 * time.Minute), Ceiling: schedule.Duration(4 * time.Hour)}},
		},
		Limits: schedule.Limits{PerVCenter: 1, PerHost: 2, PerDatastore: 3, PerAppliance: 4, Disks: 5, Drafts: 6, PutsPerSecond: 7},
		Server: Server{Listen: ":8980", Cert: "/etc/tls.crt", Key: "/etc/tls.key", PlainHTTP: true, OpenMetrics: true,
			Tokens: []Token{{Name: "ops", Role: schedule.RoleOperator, SHA256: "ab"}}},
		Webhooks: []Webhook{{Name: "bus", URL: "https://h", Events: []schedule.EventKind{schedule.EventStalled}, SecretFile: "/run/hook", CACerts: "/etc/h.pem"}},
		Log:      Log{Format: "json", Level: "debug"},
		History:  History{Keep: 720 * time.Hour},
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b Secret) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestParseRefusesAndPoints(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "transfer:\n  reads: 8\n  raeds: 9\n", "[3:3]"},
		{"unknown key of a proof", "policies:\n  - {name: p, every: 1h, prove: {often: 2h}}\n", "often"},
		{"unknown section", "vcentre: {}\n", "[1:1]"},
		{"twice", "stateDir: /a\nstateDir: /b\n", "[2:1]"},
		{"wrong type", "transfer:\n  reads: many\n", "[2:10]"},
		{"bad rate", "transfer:\n  limit: 200MX/s\n", "unknown unit"},
		{"bad choice", "transfer:\n  quiesce: maybe\n", `"maybe" is none of off, try, require`},
		{"two documents", "stateDir: /a\n---\nstateDir: /b\n", "second document"},
		{"no YAML", "a: [\n", "[1:"},
		{"huge", strings.Repeat("#", maxFile+1), "more than a settings file has"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("my.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "my.yaml") {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParseShowsLineAndCaret(t *testing.T) {
	_, err := Parse("my.yaml", []byte("transfer:\n  reads: 8\n  raeds: 9\n"))
	want := `settings my.yaml:
[3:3] unknown field "raeds"
   1 | transfer:
   2 |   reads: 8
>  3 |   raeds: 9
         ^`
	if err == nil || strings.TrimRight(err.Error(), " ") != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "transfer:\n  # reads: 9\nappliance:\n"} {
		got, err := Parse("f", []byte(text))
		if err != nil || !cmp.Equal(got, Default(), cmp.Comparer(func(a, b Secret) bool { return a == b })) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestPrecedence(t *testing.T) {
	sys := world(t, "GOVC_URL=https://env.example.com", "GOVC_USERNAME=envuser", "XDG_CONFIG_HOME=~/cfg")
	write(t, filepath.Join(sys.Home, "cfg/snapferry/config.yaml"),
		"vcenter: {url: file.example.com, user: fileuser, thumbprint: ''}\naws: {region: eu-west-1, profile: file}\nstateDir: /file\n", 0o644)
	flag := func(c *Config) error { c.VCenter.User = "flaguser"; return nil }
	c, err := Load(sys, "", []func(*Config) error{flag})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.VCenter.URL, c.VCenter.User, c.AWS.Region, c.StateDir, fmt.Sprint(c.Transfer.Buffers)}
	want := []string{"https://env.example.com/sdk", "flaguser", "eu-west-1", "/file", "80"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWhichFile(t *testing.T) {
	sys := world(t)
	etc := write(t, filepath.Join(sys.Etc, "snapferry/config.yaml"), "stateDir: /from-etc\n", 0o644)
	load := func(file string) string {
		c, err := Load(sys, file, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.StateDir
	}
	if got := load(""); got != "/from-etc" {
		t.Errorf("only %s is there: %s", etc, got)
	}
	write(t, filepath.Join(sys.Home, ".config/snapferry/config.yaml"), "stateDir: /from-home\n", 0o644)
	if got := load(""); got != "/from-home" {
		t.Errorf("the user's own goes first: %s", got)
	}
	if got := load(write(t, filepath.Join(sys.Home, "x.yaml"), "stateDir: /named\n", 0o644)); got != "/named" {
		t.Errorf("the named one goes before both: %s", got)
	}
	if _, err := Load(sys, filepath.Join(sys.Home, "none.yaml"), nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a named file that is not there: %v", err)
	}
}

func TestStateDir(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  string
		root bool
		home string
		want string
	}{
		{"systemd", "STATE_DIRECTORY=/var/lib/a:/var/lib/b", true, "/root", "/var/lib/a"},
		{"xdg", "XDG_STATE_HOME=/x", false, "/h", "/x/snapferry"},
		{"xdg relative is ignored", "XDG_STATE_HOME=x", false, "/h", "/h/.local/state/snapferry"},
		{"root", "A=", true, "/root", "/var/lib/snapferry"},
		{"user", "A=", false, "/h", "/h/.local/state/snapferry"},
		{"nobody", "A=", false, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sys := world(t, tt.env)
			sys.Root, sys.Home = tt.root, tt.home
			c, err := Load(sys, "", nil)
			if c.StateDir != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v; want %q", c.StateDir, err, tt.want)
			}
		})
	}
}

func TestPasswords(t *testing.T) {
	sys := world(t)
	in := func(name string) string { return filepath.Join(sys.Home, name) }
	write(t, in("good"), "pass word\n", 0o600)
	write(t, in("open"), "pw\n", 0o644)
	write(t, in("empty"), "\n", 0o600)
	write(t, in("long"), "a\nb\n", 0o600)
	write(t, in("cred/pw"), "from systemd\n", 0o440)
	for _, tt := range []struct {
		name, text, env string
		mode            os.FileMode
		want, err       string
	}{
		{"in the file", "vcenter: {password: pw}", "", 0o600, "pw", ""},
		{"in the file, open", "vcenter: {password: pw}", "", 0o640, "", "chmod 600"},
		{"file open, no password", "vcenter: {user: u}", "", 0o644, "", ""},
		{"password file", "vcenter: {passwordFile: " + in("good") + "}", "", 0o644, "pass word", ""},
		{"password file open", "vcenter: {passwordFile: " + in("open") + "}", "", 0o600, "", "mode 0644"},
		{"password file empty", "vcenter: {passwordFile: " + in("empty") + "}", "", 0o600, "", "is empty"},
		{"password file of two lines", "vcenter: {passwordFile: " + in("long") + "}", "", 0o600, "", "more than one line"},
		{"password file missing", "vcenter: {passwordFile: " + in("none") + "}", "", 0o600, "", "no such file"},
		{"both", "vcenter: {password: pw, passwordFile: " + in("good") + "}", "", 0o600, "", "both set"},
		{"systemd credential", "vcenter: {passwordFile: " + in("cred/pw") + "}", "CREDENTIALS_DIRECTORY=" + in("cred"), 0o600, "from systemd", ""},
		{"the environment wins", "vcenter: {passwordFile: " + in("good") + "}", "GOVC_PASSWORD=env", 0o600, "env", ""},
		{"in GOVC_URL", "vcenter: {password: pw}", "GOVC_URL=u:inurl@host", 0o600, "inurl", ""},
		{"in the file's URL", "vcenter: {url: 'https://u:hush@host'}", "", 0o600, "", "not in the URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, in("config.yaml"), tt.text+"\n", tt.mode)
			s := sys
			k, v, _ := strings.Cut(tt.env, "=")
			s.Getenv = func(name string) string {
				if name == k {
					return v
				}
				return ""
			}
			c, err := Load(s, file, nil)
			switch {
			case tt.err == "" && (err != nil || c.VCenter.Password.Reveal() != tt.want):
				t.Errorf("%q, %v; want %q", c.VCenter.Password.Reveal(), err, tt.want)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %q in it", err, tt.err)
			case err != nil && strings.Contains(err.Error(), "hush"):
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestSecretDoesNotLeak(t *testing.T) {
	c := Default()
	c.VCenter.Password = NewSecret("hush")
	j, _ := json.Marshal(c)
	y, _ := yaml.Marshal(c)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "password", c.VCenter.Password)
	for _, s := range []string{string(j), string(y), log.String(), fmt.Sprint(c), fmt.Sprintf("%+v %#v %q %x", c, c, c.VCenter.Password, c.VCenter.Password)} {
		if strings.Contains(s, "hush") || strings.Contains(s, "68757368") {
			t.Errorf("leaked in %s", s)
		}
	}
}

func TestURLErrorsDoNotRepeatThePassword(t *testing.T) {
	for _, s := range []string{"https://u:hush@ho st/", "u:hush@%zz", "ftp://u:hush@host", "https://u:hush@"} {
		_, err := ParseURL(s)
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestChecks(t *testing.T) {
	for _, tt := range []struct {
		want string
		set  func(*Config)
	}{
		{"transfer.reads is 0", func(c *Config) { c.Transfer.Reads = 0 }},
		{"transfer.puts is 5000", func(c *Config) { c.Transfer.Puts = 5000 }},
		{"transfer.gets is -1", func(c *Config) { c.Transfer.Gets = -1 }},
		{"transfer.buffers is 99999", func(c *Config) { c.Transfer.Buffers = 99999 }},
		{"transfer.cleanup", func(c *Config) { c.Transfer.Cleanup = 0 }},
		{"transfer.maxFreeze", func(c *Config) { c.Transfer.MaxFreeze = -1 }},
		{"thumbprint", func(c *Config) { c.VCenter.Thumbprint = "AA:BB" }},
		{"appliance.id", func(c *Config) { c.Appliance.ID = "a b" }},
		{"aws.endpoints.ec2", func(c *Config) { c.AWS.Endpoints.EC2 = "ec2.amazonaws.com" }},
		{"aws.putsPerSecond", func(c *Config) { c.AWS.PutsPerSecond = -1 }},
		{"belong to AWS", func(c *Config) { c.Transfer.Tags = map[string]string{"aws:x": "y"} }},
		{"more than 255", func(c *Config) { c.Transfer.Tags = map[string]string{"x": strings.Repeat("y", 256)} }},
		{"vCenter URL", func(c *Config) { c.VCenter.URL = "ftp://x" }},
		{"database.url", func(c *Config) { c.Database.URL = "mysql://x" }},
		{"passwordFile, not in the URL", func(c *Config) { c.Database.URL = "postgres://u:p@h/d" }},
		{"limits.perHost is -1", func(c *Config) { c.Limits.PerHost = -1 }},
		{"tokens in the clear", func(c *Config) { c.Server.Listen = ":8980" }},
		{"HOST:PORT", func(c *Config) { c.Server.Listen = "8980" }},
		{"come together", func(c *Config) { c.Server.Cert = "/c" }},
		{"a name of its own", func(c *Config) { c.Server.Tokens = []Token{token("a"), token("a")} }},
		{"64 hex digits", func(c *Config) { c.Server.Tokens = []Token{{Name: "a", Role: "viewer", SHA256: "12"}} }},
		{"viewer or operator", func(c *Config) { c.Server.Tokens = []Token{{Name: "a", Role: "root"}} }},
		{"webhook a: url", func(c *Config) { c.Webhooks = []Webhook{{Name: "a", URL: "h"}} }},
		{"log.level", func(c *Config) { c.Log.Level = "loud" }},
		{"history.keep", func(c *Config) { c.History.Keep = time.Hour }},
		{"gold", func(c *Config) { c.Policies = []schedule.Policy{{Name: "gold"}} }},
		{"policy gold: prove.every is 1h", func(c *Config) {
			c.Policies = []schedule.Policy{{Name: "gold", Cron: "@daily", Prove: &schedule.Prove{Every: schedule.Duration(time.Hour)}}}
		}},
		{"convert.cloudInit", func(c *Config) { c.Convert.CloudInit = "on" }},
	} {
		_, err := Load(world(t), "", []func(*Config) error{func(c *Config) error { tt.set(c); return nil }})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q in it", err, tt.want)
		}
	}
}

func token(name string) Token {
	return Token{Name: name, Role: schedule.RoleViewer, SHA256: strings.Repeat("ab", 32)}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]Rate{
		"200MB/s": 200e6, "200 MB/s": 200e6, "190MiB/s": 190 << 20, "800Mbit/s": 100e6, "1Gbps": 125e6, "1Gbit": 125e6,
		"1.5GB/s": 1.5e9, "1000": 1000, "64KiB/s": 64 << 10, "8kbit/s": 1000, "0": 0, "none": 0, " 10MB ": 10e6, "100Mb/s": 12.5e6,
	} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "fast", "-1MB/s", "1XB/s", "0MB/s", "0.1", "1e9", "9999999999999GB/s", "MB/s", "1MB/h"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("%q gave %d", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("transfer: {limit: 1MB/s, tags: &a {x: y}}\naws: *a\n")
	f.Add("a: !!binary x\n---\n- 1\n")
	f.Add("transfer:\n\treads: 1\n")
	f.Add("? {}\n: <<: [*a]\n")
	f.Add("vcenter: {password: 123}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f", []byte(text))
		if err != nil {
			if c.Transfer.Reads != defaultReads {
				t.Error("an error came with half a configuration")
			}
			return
		}
		// What was accepted once is accepted when written out again. The
		// password is hidden in that form, and so left out.
		c.VCenter.Password = Secret{}
		out, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("f", out); err != nil {
			t.Errorf("read back what was accepted: %v\n%s", err, out)
		}
	})
}
