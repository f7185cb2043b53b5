package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// qemu puts a shell script into the path as QEMU; $console and $report are the
// serial lines' files in it.
func qemu(t *testing.T, script string) Machine {
	t.Helper()
	bin := t.TempDir()
	text := "#!/bin/sh\nfor a do case $a in file:*/console-*) console=${a#file:};; file:*/report-*) report=${a#file:};; esac; done\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return Machine{Image: "disk.raw", Firmware: "bios", Bus: "nvme", Dir: t.TempDir(), Limit: 20 * time.Second}
}

func TestBootTellsTheOutcome(t *testing.T) {
	up := `printf 'Loading\r\nPROBE-READY root=/dev/nvme0n1p1 fs=ext4 ip=ens3:10.0.2.15/24, failed= cmdline=root=UUID=x ro console=ttyS0\r\n' > "$report"; exec sleep 600`
	p, err := Boot(t.Context(), qemu(t, up))
	if err != nil || p.Values["root"] != "/dev/nvme0n1p1" || p.Values["ip"] != "ens3:10.0.2.15/24," || p.Values["failed"] != "" || !strings.HasSuffix(p.Line, "console=ttyS0") {
		t.Errorf("up: %+v, %v", p, err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"panics":    {`echo 'Kernel panic - not syncing: VFS' > "$console"; exec sleep 600`, "VFS"},
		"no root":   {`echo 'ALERT!  UUID=x does not exist.' > "$console"; exec sleep 600`, "does not exist"},
		"QEMU ends": {`echo 'no such device' >&2; exit 1`, "no such device"},
	} {
		if _, err := Boot(t.Context(), qemu(t, c.script)); !errors.Is(err, ErrNoBoot) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	slow := qemu(t, `echo 'still booting' > "$console"; exec sleep 600`)
	slow.Limit = 500 * time.Millisecond
	if _, err := Boot(t.Context(), slow); !errors.Is(err, ErrNoBoot) || !strings.Contains(err.Error(), "still booting") {
		t.Errorf("slow: %v", err)
	}
}

func TestMachines(t *testing.T) {
	for bus, want := range map[string]string{"pvscsi": "pvscsi,id=scsi0 -device scsi-hd", "nvme": "-device nvme,drive=d0"} {
		args, err := Machine{Image: "a,b.raw", Bus: bus}.args("console", "report")
		if line := strings.Join(args, " "); err != nil || !strings.Contains(line, want) || !strings.Contains(line, "file=a,,b.raw,snapshot=on") {
			t.Errorf("%s: %s, %v", bus, line, err)
		}
	}
	if _, err := (Machine{Bus: "floppy"}).args("console", "report"); err == nil {
		t.Error("a floppy")
	}
	t.Setenv("SNAPFERRY_BOOT_SECONDS", "7")
	if l := (Machine{}).limit(); l != 7*time.Second {
		t.Errorf("limit %v", l)
	}
}

// TestPowerButton speaks to a QEMU that greets, tells of an event in between,
// and ends when it is told to power down.
func TestPowerButton(t *testing.T) {
	r, err := Start(qemu(t, `echo '{"QMP": {"version": {}}}'; echo '{"event": "RESUME"}'
while read -r line; do
	case $line in
	*qmp_capabilities*) echo '{"return": {}}';;
	*system_powerdown*) printf 'LOAD-ENTRY 1 aa\r\nLOAD-STO' > "$report"; echo '{"event": "POWERDOWN"}'; echo '{"return": {}}'; exit 0;;
	*) echo '{"error": {"class": "CommandNotFound", "desc": "what?"}}';;
	esac
done`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.End()
	if _, err := r.command("dance", nil); err == nil || !strings.Contains(err.Error(), "what?") {
		t.Errorf("a command that is not known: %v", err)
	}
	if err := r.PowerButton(); err != nil {
		t.Fatal(err)
	}
	<-r.Off()
	if told := r.Told(); told != "LOAD-ENTRY 1 aa\n" {
		t.Errorf("told %q", told)
	}
	if err := r.Until(t.Context(), func(string) bool { return false }); err == nil {
		t.Error("waiting for a machine that is off succeeds")
	}
}

func TestWhatIsLost(t *testing.T) {
	committed, err := Committed("PROBE-READY root=x\n\x1b[0mLOAD-ENTRY 1 aa\nLOAD-ENTRY 2 bb\nLOAD-FILE 77 0123\nLOAD-STOPPED\n")
	if err != nil || len(committed.Entries) != 2 || !committed.Stopped {
		t.Fatalf("%+v, %v", committed, err)
	}
	if _, err := Committed("LOAD-ENTRY 1 aa\nLOAD-ENTRY 3 bb\n"); err == nil {
		t.Error("an entry is left out")
	}
	good := "PROBE-ENTRY 1 aa\nPROBE-ENTRY 2 bb\nPROBE-ENTRY 3 cc\nPROBE-FILE 77 0123\nPROBE-FILE 78 4567\nPROBE-INTEGRITY ok\nPROBE-TOTAL 3 900 3 900\n"
	find := func(report string) Found {
		t.Helper()
		f, err := Find(report)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := find(good); len(f.Lacks(committed)) > 0 || len(f.Broken()) > 0 {
		t.Errorf("more than was told: %v, %v", f.Lacks(committed), f.Broken())
	}
	for name, bad := range map[string]string{
		"an entry":       strings.ReplaceAll(strings.ReplaceAll(good, "PROBE-ENTRY 2 bb\n", ""), "PROBE-ENTRY 3 cc\n", ""),
		"another entry":  strings.ReplaceAll(good, "2 bb", "2 bc"),
		"a file":         strings.ReplaceAll(good, "PROBE-FILE 77 0123\n", ""),
		"a file's bytes": strings.ReplaceAll(good, "77 0123", "77 0124"),
	} {
		if len(find(bad).Lacks(committed)) != 1 {
			t.Errorf("%s is lost, and that is not seen", name)
		}
	}
	for name, bad := range map[string]string{
		"the check":     strings.ReplaceAll(good, "INTEGRITY ok", "INTEGRITY row 3 missing"),
		"no check":      strings.ReplaceAll(good, "PROBE-INTEGRITY ok\n", ""),
		"a wrong entry": good + "PROBE-WRONG 2\n",
		"the total":     strings.ReplaceAll(good, "3 900 3 900", "4 900 3 900"),
	} {
		if len(find(bad).Broken()) == 0 {
			t.Errorf("%s: not seen", name)
		}
	}
}

// TestBootLost reads what a guest without a serial line shows: in the memory of
// a BIOS machine's screen.
func TestBootLost(t *testing.T) {
	shows := func(text string) string {
		var screen strings.Builder
		for _, c := range text {
			screen.WriteString(string(c) + `\007`)
		}
		return `echo '{"QMP": {}}'
while read -r line; do
	file=${line#*filename\":\"}
	case $line in *pmemsave*) printf '` + screen.String() + `' > "${file%%\"*}";; esac
	echo '{"return": {}}'
done`
	}
	said, err := BootLost(t.Context(), qemu(t, shows("Begin: ALERT!  UUID=1-2 does not exist.  Dropping to a shell!")))
	if err != nil || said != "ALERT! UUID=1-2 does not exist. Dropping to a shell!" {
		t.Errorf("lost: %q, %v", said, err)
	}
	quiet := qemu(t, shows("login: "))
	quiet.Limit = 2 * time.Second
	if said, err := BootLost(t.Context(), quiet); err == nil {
		t.Errorf("a guest that shows nothing of the kind: %q", said)
	}
	up := `printf 'PROBE-READY root=/dev/nvme0n1p1\r\n' > "$report"` + "\n"
	if said, err := BootLost(t.Context(), qemu(t, up+shows("login: "))); err == nil || !strings.Contains(err.Error(), "came up") {
		t.Errorf("a guest that comes up: %q, %v", said, err)
	}
}
