package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// qemu puts a shell script into the path as QEMU; $serial is the serial line's
// file in it.
func qemu(t *testing.T, script string) Machine {
	t.Helper()
	bin := t.TempDir()
	text := "#!/bin/sh\nfor a do case $a in file:*) serial=${a#file:};; esac; done\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, "qemu-system-x86_64"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return Machine{Image: "disk.raw", Firmware: "bios", Bus: "nvme", Dir: t.TempDir(), Limit: 20 * time.Second}
}

func TestBootTellsTheOutcome(t *testing.T) {
	up := `printf 'Loading\r\nPROBE-READY root=/dev/nvme0n1p1 fs=ext4 ip=ens3:10.0.2.15/24, failed= cmdline=root=UUID=x ro console=ttyS0\r\n' > "$serial"; exec sleep 600`
	p, err := Boot(t.Context(), qemu(t, up))
	if err != nil || p.Values["root"] != "/dev/nvme0n1p1" || p.Values["ip"] != "ens3:10.0.2.15/24," || p.Values["failed"] != "" || !strings.HasSuffix(p.Line, "console=ttyS0") {
		t.Errorf("up: %+v, %v", p, err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"panics":    {`echo 'Kernel panic - not syncing: VFS' > "$serial"; exec sleep 600`, "VFS"},
		"no root":   {`echo 'ALERT!  UUID=x does not exist.' > "$serial"; exec sleep 600`, "does not exist"},
		"QEMU ends": {`echo 'no such device' >&2; exit 1`, "no such device"},
	} {
		if _, err := Boot(t.Context(), qemu(t, c.script)); !errors.Is(err, ErrNoBoot) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	slow := qemu(t, `echo 'still booting' > "$serial"; exec sleep 600`)
	slow.Limit = 500 * time.Millisecond
	if _, err := Boot(t.Context(), slow); !errors.Is(err, ErrNoBoot) || !strings.Contains(err.Error(), "still booting") {
		t.Errorf("slow: %v", err)
	}
}

func TestMachines(t *testing.T) {
	for bus, want := range map[string]string{"pvscsi": "pvscsi,id=scsi0 -device scsi-hd", "nvme": "-device nvme,drive=d0"} {
		args, err := Machine{Image: "a,b.raw", Bus: bus}.args("log")
		if line := strings.Join(args, " "); err != nil || !strings.Contains(line, want) || !strings.Contains(line, "file=a,,b.raw,snapshot=on") {
			t.Errorf("%s: %s, %v", bus, line, err)
		}
	}
	if _, err := (Machine{Bus: "floppy"}).args("log"); err == nil {
		t.Error("a floppy")
	}
	t.Setenv("SNAPFERRY_BOOT_SECONDS", "7")
	if l := (Machine{}).limit(); l != 7*time.Second {
		t.Errorf("limit %v", l)
	}
}
