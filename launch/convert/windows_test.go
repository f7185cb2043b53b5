package convert_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapferry/launch/convert"
)

// emptyHive is a registry hive of one empty root key: the format as libhivex
// reads it (a header of 4 KiB, one bin of 4 KiB with the root's nk and sk cells).
func emptyHive() []byte {
	h := make([]byte, 2*4096)
	le := binary.LittleEndian
	copy(h, "regf")
	le.PutUint32(h[0x04:], 1)
	le.PutUint32(h[0x08:], 1)
	le.PutUint32(h[0x14:], 1)
	le.PutUint32(h[0x18:], 3)
	le.PutUint32(h[0x20:], 1)
	le.PutUint32(h[0x24:], 0x20)   // the root cell
	le.PutUint32(h[0x28:], 0x1000) // bytes of bins
	le.PutUint32(h[0x2c:], 1)
	sum := uint32(0)
	for i := 0; i < 0x1fc; i += 4 {
		sum ^= le.Uint32(h[i:])
	}
	le.PutUint32(h[0x1fc:], sum)
	bin := h[4096:]
	copy(bin, "hbin")
	le.PutUint32(bin[0x08:], 0x1000)
	const nk, nkLen, sk, skLen = 0x20, 96, 0x80, 0x30
	root := bin[nk:]
	neg := func(n int32) uint32 { return uint32(-n) }
	le.PutUint32(root, neg(nkLen))
	copy(root[4:], "nk")
	le.PutUint16(root[6:], 0x2c) // the root, not to be deleted, a name of bytes
	for _, at := range []int{32, 36, 44, 52} {
		le.PutUint32(root[at:], 0xffffffff) // no subkeys, values, class
	}
	le.PutUint32(root[48:], sk)
	const name = "$$$PROTO.HIV"
	le.PutUint16(root[76:], uint16(len(name)))
	copy(root[80:], name)
	sec := bin[sk:]
	le.PutUint32(sec, neg(skLen))
	copy(sec[4:], "sk")
	le.PutUint32(sec[8:], sk)
	le.PutUint32(sec[12:], sk)
	le.PutUint32(sec[16:], 1)
	le.PutUint32(sec[20:], 20)
	sec[24], sec[27] = 1, 0x80 // a self-relative descriptor of nothing
	le.PutUint32(bin[sk+skLen:], 0x1000-sk-skLen)
	return h
}

func TestRegistryEdits(t *testing.T) {
	tools(t, "hivexregedit")
	dir, _ := workdir(t)
	defer dir.Remove()
	hive := filepath.Join(dir.Path(), "SYSTEM")
	if err := os.WriteFile(hive, emptyHive(), 0o600); err != nil {
		t.Fatal(err)
	}
	// As Windows has it before: stornvme disarmed, VMware's tools on.
	before := "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001]\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services]\r\n" +
		"\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services\\stornvme]\r\n\"Start\"=dword:00000003\r\n" +
		"\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services\\stornvme\\StartOverride]\r\n\"0\"=dword:00000003\r\n" +
		"\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\ControlSet001\\Services\\VMTools]\r\n\"Start\"=dword:00000002\r\n"
	if err := convert.MergeHive(dir, t.Context(), hive, "SYSTEM", before); err != nil {
		t.Fatal(err)
	}
	number := func(key, name string) (int, bool) {
		t.Helper()
		v, there, err := convert.HiveNumber(dir, t.Context(), hive, `ControlSet001\Services\`+key, name)
		if err != nil {
			t.Fatal(err)
		}
		return v, there
	}
	if v, there := number("stornvme", "Start"); !there || v != 3 {
		t.Fatalf("stornvme before: %d, %v", v, there)
	}
	w := convert.WindowsFacts{SystemRoot: "/Windows", ControlSet: "ControlSet001", NVMe: true, SAN: -1, Services: map[string]int{"stornvme": 3, "VMTools": 2}}
	if err := convert.MergeHive(dir, t.Context(), hive, "SYSTEM", convert.RegFile("SYSTEM", w, true)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key, name string
		want      int
	}{{"stornvme", "Start", 0}, {"stornvme", "ErrorControl", 3}, {`stornvme\StartOverride`, "0", 0}, {`partmgr\Parameters`, "SanPolicy", 1}, {"VMTools", "Start", 4}} {
		if v, there := number(c.key, c.name); !there || v != c.want {
			t.Errorf("%s %s is %d, %v", c.key, c.name, v, there)
		}
	}
	if _, there := number("partmgr", "SanPolicy"); there {
		t.Error("a value of a key below is taken for the key's own")
	}
	if _, there := number("VGAuthService", "Start"); there {
		t.Error("a service that was not there is there")
	}
	out, err := convert.Run(dir, t.Context(), 1e10, "hivexregedit", "--export", "--unsafe-printable-strings", hive, `Setup`)
	if err != nil || !strings.Contains(string(out), `"SetupType"=dword:00000002`) || !strings.Contains(string(out), `snapferry-drivers\firstboot.cmd`) {
		t.Errorf("the first-boot step: %v\n%s", err, out)
	}
	w.SAN, w.Services = 1, map[string]int{"stornvme": 0, "VMTools": 4}
	if again := convert.RegFile("SYSTEM", w, false); strings.Contains(again, "dword") {
		t.Errorf("edits of what is ready: %s", again)
	}
	if err := os.WriteFile(hive, []byte("no hive"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := convert.MergeHive(dir, t.Context(), hive, "SYSTEM", before); err == nil {
		t.Error("what is no hive was changed")
	}
}

func TestWindowsPlans(t *testing.T) {
	facts := func(edit func(*convert.WindowsFacts)) convert.Facts {
		w := &convert.WindowsFacts{SystemRoot: "/Windows", ControlSet: "ControlSet001", NVMe: true, ENA: true, SAN: -1, Services: map[string]int{"stornvme": 3}}
		edit(w)
		return convert.Facts{OS: "windows", Product: "Windows Server 2022", Arch: "x86_64", Windows: w}
	}
	none := func(*convert.WindowsFacts) {}
	p := convert.Decide(facts(none), convert.Wishes{})
	if p.Refused != "" || len(p.Changes) != 1 || p.Changes[0].Path != "/Windows/System32/config/SYSTEM" || !strings.Contains(p.Changes[0].Content, "SanPolicy") || !doubts(p, "not tried on a real Windows") {
		t.Errorf("plan %+v", p)
	}
	if p := convert.Decide(facts(func(w *convert.WindowsFacts) { w.SAN, w.Services["stornvme"] = 1, 0 }), convert.Wishes{}); !p.Ready || !doubts(p, "not tried") {
		t.Errorf("a ready one: %+v", p)
	}
	if p := convert.Decide(facts(func(w *convert.WindowsFacts) { w.Hibernated = true }), convert.Wishes{}); !strings.Contains(p.Refused, "hibernated") {
		t.Errorf("a hibernated one: %+v", p)
	}
	if p := convert.Decide(facts(func(w *convert.WindowsFacts) { w.NVMe = false }), convert.Wishes{}); !strings.Contains(p.Refused, "NVMe") {
		t.Errorf("without a driver: %+v", p)
	}
	if p := convert.Decide(facts(func(w *convert.WindowsFacts) { w.ENA = false }), convert.Wishes{}); !doubts(p, "ENA") {
		t.Errorf("without ENA: %+v", p)
	}
	p = convert.Decide(facts(none), convert.Wishes{Drivers: "/opt/drivers"})
	if !did(p, convert.DeedLay, "/Windows/snapferry-drivers") || !strings.Contains(written(p, "/Windows/snapferry-drivers/firstboot.cmd"), "pnputil") {
		t.Errorf("with drivers: %+v", p)
	}
}
