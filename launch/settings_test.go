package launch

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseSettings(t *testing.T) {
	base := map[string]string{"subnet": "subnet-c", "test.subnet": "subnet-t"}
	for name, c := range map[string]struct {
		flat map[string]string
		see  func(cut, test Settings) (got, want any)
	}{
		"defaults": {nil, func(cut, test Settings) (any, any) {
			return []any{cut.Licence, cut.Volume.Type, cut.For, test.For, cut.Metadata.Tokens, cut.WaitStatus, test.NICs[0].Subnet, cut.NICs[0].Subnet},
				[]any{LicenceBYOL, "gp3", time.Duration(0), 8 * time.Hour, "required", true, "subnet-t", "subnet-c"}
		}},
		"a test inherits": {map[string]string{"instanceType": "m6i.large", "disk2.volumeType": "gp2", "tag.team": "a"}, func(cut, test Settings) (any, any) {
			return []any{test.InstanceType, test.volumeOf(2).Type, test.volumeOf(1).Type, test.Tags["team"]}, []any{"m6i.large", "gp2", "gp3", "a"}
		}},
		"but not its place in the network": {map[string]string{"privateIP": "keep", "securityGroups": "sg-1, sg-2", "nic1.subnet": "subnet-d", "tenancy": "dedicated"}, func(cut, test Settings) (any, any) {
			return []any{len(test.NICs), test.NICs[0].PrivateIP, len(test.NICs[0].SecurityGroups), test.Tenancy, len(cut.NICs), cut.NICs[0].SecurityGroups},
				[]any{1, "", 0, "", 2, []string{"sg-1", "sg-2"}}
		}},
		"what is for tests is not for the cutover": {map[string]string{"test.instanceType": "t3.medium", "instanceType": "m6i.large", "test.for": "90m"}, func(cut, test Settings) (any, any) {
			return []any{cut.InstanceType, test.InstanceType, test.For, cut.For}, []any{"m6i.large", "t3.medium", 90 * time.Minute, time.Duration(0)}
		}},
		"a disk over all disks": {map[string]string{"volumeType": "io2", "iops": "5000", "kmsKey": "k", "disk2.volumeType": "gp3", "disk2.throughput": "250"}, func(cut, test Settings) (any, any) {
			return []any{cut.volumeOf(1), cut.volumeOf(2)}, []any{Volume{Type: "io2", IOPS: 5000, KMSKey: "k"}, Volume{Type: "gp3", Throughput: 250, KMSKey: "k"}}
		}},
		"volumes of a test never stay": {map[string]string{"keepVolumes": "yes", "disk2.keepVolumes": "no"}, func(cut, test Settings) (any, any) {
			return []any{cut.keeps(1), cut.keeps(2), test.keeps(1)}, []any{true, false, false}
		}},
		"a check": {map[string]string{"check0.http": "http://{ip}/", "check0.status": "204", "check1.tcp": "22"}, func(cut, test Settings) (any, any) {
			return cut.Checks, []Check{{Kind: CheckHTTP, Target: "http://{ip}/", Status: 204}, {Kind: CheckTCP, Target: "22"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			flat := maps.Clone(base)
			maps.Copy(flat, c.flat)
			cut, err := ParseSettings(flat, ForCutover)
			if err != nil {
				t.Fatal(err)
			}
			test, err := ParseSettings(flat, ForTest)
			if err != nil {
				t.Fatal(err)
			}
			if err := cut.Check(false); err != nil {
				t.Error(err)
			}
			if err := test.Check(false); err != nil {
				t.Error(err)
			}
			if got, want := c.see(cut, test); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func TestParseSettingsRefuses(t *testing.T) {
	for flat, want := range map[[2]string]string{
		{"subnett", "subnet-1"}:             "nearest is subnet",
		{"test.instancetype", "m6i.large"}:  "nearest is instanceType",
		{"disk2.volumetype", "gp3"}:         "nearest is disk#.volumeType",
		{"nic0.privateIp", "keep"}:          "nearest is nic#.privateIP",
		{"disk0.volumeType", "gp3"}:         "counted from 1",
		{"disk01.volumeType", "gp3"}:        "no such key",
		{"disk999.volumeType", "gp3"}:       "more than 128",
		{"nic99.subnet", "subnet-1"}:        "more than 14",
		{"subnet", "vpc-1"}:                 "not an ID",
		{"subnet", ""}:                      "empty",
		{"keyName", " x"}:                   "space",
		{"privateIP", "10.0.0.300"}:         "neither",
		{"privateIP", "::1"}:                "IPv4",
		{"securityGroups", "sg-1,,sg-2"}:    "list",
		{"initializationRate", "99"}:        "from 100 to 300",
		{"initializationRate", "301"}:       "from 100 to 300",
		{"volumeType", "gp4"}:               "none of",
		{"licence", "free"}:                 "none of",
		{"stopped", "maybe"}:                "neither yes nor no",
		{"test.for", "8"}:                   "duration",
		{"test.for", "1s"}:                  "duration",
		{"metadata.hopLimit", "65"}:         "from 1 to 64",
		{"tag.aws:x", "y"}:                  "taken",
		{"tag.Snapferry:vm", "y"}:           "taken",
		{"tag.x", strings.Repeat("y", 256)}: "255",
		{"tag.*", "y"}:                      "",
		{"instanceType", "large"}:           "neither auto",
	} {
		_, err := ParseSettings(map[string]string{flat[0]: flat[1]}, ForCutover)
		if want == "" {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), flat[0]) {
			t.Errorf("%s = %q: %v, want %q", flat[0], flat[1], err, want)
		}
	}
	if _, err := ParseSettings(nil, "play"); err == nil {
		t.Error("an unknown purpose is taken")
	}
	_, err := ParseSettings(map[string]string{"a": "x", "b": "y"}, ForTest)
	if err == nil || !strings.Contains(err.Error(), "a:") || !strings.Contains(err.Error(), "b:") {
		t.Errorf("not every wrong key is named: %v", err)
	}
}

func TestSettingsCheck(t *testing.T) {
	for want, flat := range map[string]map[string]string{
		"test needs a subnet of its own": {"subnet": "subnet-c"},
		"needs stockImage":               {"licence": "aws"},
		"goes with licence aws only":     {"stockImage": "ami-1"},
		"needs platform":                 {"licence": "import"},
		"TPM needs":                      {"tpm": "yes", "bootMode": "legacy-bios"},
		"cannot be set for type gp2":     {"volumeType": "gp2", "iops": "3000"},
		"3000 to 80000":                  {"iops": "200"},
		"needs iops":                     {"disk2.volumeType": "io2"},
		"throughput cannot":              {"disk2.volumeType": "st1", "disk2.throughput": "200"},
		"boots from no volume":           {"volumeType": "sc1"},
		"tenancy is not host":            {"test.host": "h-1"},
		"launchTemplate is not":          {"launchTemplateVersion": "3"},
		"neither tcp nor":                {"check0.timeout": "3s"},
		"does not hold {ip}":             {"check0.http": "http://example.com/"},
		"no port":                        {"check0.tcp": "0"},
		"not an absolute path":           {"check0.script": "x.sh"},
		"one of several NICs":            {"test.publicIP": "yes", "test.nic1.subnet": "subnet-d"},
		"nic1 is not set":                {"test.nic2.subnet": "subnet-d"},
		"there twice":                    {"test.privateIP": "10.0.0.1", "test.nic1.privateIP": "10.0.0.1"},
	} {
		all := maps.Clone(flat)
		if _, ok := all["subnet"]; !ok {
			all["test.subnet"] = "subnet-t"
		}
		s, err := ParseSettings(all, ForTest)
		if err != nil {
			t.Errorf("%v: %v", flat, err)
			continue
		}
		if err := s.Check(false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", flat, err, want)
		}
	}
}

func TestForcedTestBorrowsTheSubnet(t *testing.T) {
	s, err := ParseSettings(map[string]string{"subnet": "subnet-c", "securityGroups": "sg-1", "privateIP": "10.0.0.9"}, ForTest)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(true); err != nil {
		t.Fatal(err)
	}
	nics := s.network(true)
	if len(nics) != 1 || nics[0].Subnet != "subnet-c" || nics[0].PrivateIP != "" || !slices.Equal(nics[0].SecurityGroups, []string{"sg-1"}) {
		t.Errorf("borrowed: %+v", nics)
	}
}

// TestKeysAreTaken: what the documents list is what the parser takes.
func TestKeysAreTaken(t *testing.T) {
	for _, k := range Keys() {
		if k.Help == "" || k.Values == "" {
			t.Errorf("%s has no help", k.Name)
		}
		name := strings.ReplaceAll(strings.ReplaceAll(k.Name, "#", "1"), "*", "x")
		for _, key := range []string{name, "test." + name} {
			_, err := ParseSettings(map[string]string{key: "\x00"}, ForTest)
			if err != nil && strings.Contains(err.Error(), "no such key") {
				t.Errorf("%s is listed and not known", key)
			}
		}
		if k.Default != "" {
			if _, err := ParseSettings(map[string]string{name: k.Default}, ForCutover); err != nil {
				t.Errorf("the default of %s: %v", k.Name, err)
			}
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("subnet", "subnet-1", "test.disk2.iops", "3000")
	f.Add("nic14.privateIP", "keep", "tag.", "")
	f.Add("check49.http", "http://{ip}:99999/", "check49.status", "1")
	f.Add("disk128.kmsKey", "\xff", "test.test.subnet", "subnet-")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		flat := map[string]string{k1: v1, k2: v2}
		cut, err := ParseSettings(flat, ForCutover)
		test, err2 := ParseSettings(flat, ForTest)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("one purpose refuses what the other takes: %v, %v", err, err2)
		}
		if err != nil {
			return
		}
		_, _ = cut.Check(false), test.Check(true)
		for _, s := range []Settings{cut, test} {
			if len(s.NICs) > maxNIC+1 || len(s.Checks) > maxCheck+1 {
				t.Fatalf("%d NICs, %d checks", len(s.NICs), len(s.Checks))
			}
			r := Request{Settings: s, Purpose: s.Purpose}
			_, _ = r.Check(World{})
			_ = Plan(r, World{})
		}
		again, err := ParseSettings(flat, ForCutover)
		if err != nil || !reflect.DeepEqual(again, cut) {
			t.Fatal("the same keys give other settings")
		}
	})
}
