package convert

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf16"
)

// WindowsFacts are what was found out about a Windows guest.
type WindowsFacts struct {
	SystemRoot string // "/Windows"
	ControlSet string // "ControlSet001"
	NVMe       bool   // stornvme.sys is there
	ENA        bool   // a driver package of ENA is there
	Hibernated bool   // hiberfil.sys holds a session
	// Services are the Start values of services of interest; -1: not there.
	Services map[string]int
	SAN      int // SanPolicy of partmgr; -1: not set
}

const (
	startBoot     = 0
	startDisabled = 4
	// sanOnlineAll brings every disk online: with the default of servers, what
	// hangs on another controller than before stays offline (SAN_POLICY of
	// virtdisk.h: VDS_SP_ONLINE = 1).
	sanOnlineAll = 1

	driverFolder = "snapferry-drivers"
	hiveLimit    = 5 * time.Minute
)

// hivePath is where a hive's file is.
func (w WindowsFacts) hivePath(hive string) string {
	return path.Join(w.SystemRoot, "System32", "config", hive)
}

// regValue is one value of a registry key.
type regValue struct {
	key, name string
	dword     *uint32
	text      string
	expand    bool // REG_EXPAND_SZ
}

func dword(v uint32) *uint32 { return &v }

// regFile writes values as a .reg file of the hive called name, as hivexregedit
// --merge --prefix reads it: backslashes, hex for what is not a number or plain
// text.
func regFile(hive string, values []regValue) string {
	var b strings.Builder
	b.WriteString("Windows Registry Editor Version 5.00\r\n")
	last, known := "", map[string]bool{}
	for _, v := range values {
		if v.key != last {
			// A key is only made where the one above it is there.
			for i := range len(v.key) {
				if above := v.key[:i]; v.key[i] == '\\' && !known[above] {
					known[above] = true
					fmt.Fprintf(&b, "\r\n[HKEY_LOCAL_MACHINE\\%s\\%s]\r\n", hive, above)
				}
			}
			known[v.key], last = true, v.key
			fmt.Fprintf(&b, "\r\n[HKEY_LOCAL_MACHINE\\%s\\%s]\r\n", hive, v.key)
		}
		switch {
		case v.dword != nil:
			fmt.Fprintf(&b, "%q=dword:%08x\r\n", v.name, *v.dword)
		case v.expand:
			fmt.Fprintf(&b, "%q=hex(2):%s\r\n", v.name, utf16Hex(v.text))
		default:
			fmt.Fprintf(&b, "%q=hex(1):%s\r\n", v.name, utf16Hex(v.text))
		}
	}
	return b.String()
}

// utf16Hex is text as Windows keeps it, with its end.
func utf16Hex(s string) string {
	units := append(utf16.Encode([]rune(s)), 0)
	parts := make([]string, 0, 2*len(units))
	for _, u := range units {
		parts = append(parts, fmt.Sprintf("%02x", byte(u)), fmt.Sprintf("%02x", byte(u>>8)))
	}
	return strings.Join(parts, ",")
}

// windows decides for a Windows guest. Nothing of it was tried on a real one.
func (d *decision) windows() {
	w := d.Windows
	d.doubt("the conversion of Windows guests was not tried on a real Windows: launch a test before you rely on it")
	switch {
	case w.Hibernated:
		d.plan.Refused = "Windows is hibernated, or was shut down with fast startup: shut it down with \"shutdown /s /t 0\" and replicate it again"
		return
	case !w.NVMe && d.Drivers == "":
		d.plan.Refused = "Windows has no NVMe driver (stornvme.sys, from Windows 8.1 and Server 2012 R2 on): give AWS's NVMe driver package as drivers"
		return
	}
	if values := w.systemEdits(d.Drivers != ""); len(values) > 0 {
		d.add(Change{Do: DeedHive, Path: w.hivePath("SYSTEM"), Content: regFile("SYSTEM", values), What: "SYSTEM: " + describe(values)})
	}
	if d.Drivers == "" {
		if !w.ENA {
			d.doubt("no ENA driver was found in the guest: without one it has no network on EC2; give AWS's driver package as drivers")
		}
		return
	}
	folder := path.Join(w.SystemRoot, driverFolder)
	d.add(Change{Do: DeedLay, Path: d.Drivers, To: folder, What: "driver packages into " + folder})
	d.add(Change{Do: DeedWrite, Path: path.Join(folder, "firstboot.cmd"), Content: firstBoot(w.SystemRoot), Mode: 0o644, What: "a first-boot step that installs them and removes itself"})
	d.add(Change{Do: DeedHive, Path: w.hivePath("SYSTEM"), Content: regFile("SYSTEM", firstBootEdits(w.SystemRoot)), What: "SYSTEM: run the first-boot step before anybody logs on"})
}

func describe(values []regValue) string {
	var all []string
	for _, v := range values {
		if v.dword != nil {
			all = append(all, fmt.Sprintf("%s %s=%d", path.Base(strings.ReplaceAll(v.key, `\`, "/")), v.name, *v.dword))
		}
	}
	return strings.Join(all, ", ")
}

// systemEdits make Windows load the NVMe driver when it boots and bring all
// disks online, and keep VMware's services from starting. drivers says that
// packages are laid in, which may bring the driver that is missing.
func (w WindowsFacts) systemEdits(drivers bool) (values []regValue) {
	services := w.ControlSet + `\Services\`
	if start, there := w.Services["stornvme"]; w.NVMe && (!there || start != startBoot) {
		key := services + "stornvme"
		values = append(values,
			regValue{key: key, name: "Start", dword: dword(startBoot)},
			regValue{key: key, name: "Type", dword: dword(1)}, // a kernel driver
			regValue{key: key, name: "ErrorControl", dword: dword(3)},
			regValue{key: key, name: "Group", text: "SCSI Miniport"},
			regValue{key: key, name: "ImagePath", text: `System32\drivers\stornvme.sys`, expand: true},
			// Windows disarms boot drivers that it did not need; 0 takes that back.
			regValue{key: key + `\StartOverride`, name: "0", dword: dword(0)},
		)
	}
	if w.SAN != sanOnlineAll {
		values = append(values, regValue{key: services + `partmgr\Parameters`, name: "SanPolicy", dword: dword(sanOnlineAll)})
	}
	for _, name := range []string{"VMTools", "VGAuthService", "vm3dservice"} {
		if start, there := w.Services[name]; there && start >= 0 && start != startDisabled {
			values = append(values, regValue{key: services + name, name: "Start", dword: dword(startDisabled)})
		}
	}
	return values
}

// windowsPath is a path of the guest as Windows writes it.
func windowsPath(p string) string { return `C:` + strings.ReplaceAll(p, "/", `\`) }

// firstBoot installs the packages; SetupType is put back first, so that a
// package that fails does not run for ever.
func firstBoot(root string) string {
	folder := windowsPath(path.Join(root, driverFolder))
	return strings.Join([]string{
		"@echo off",
		`reg add HKLM\SYSTEM\Setup /v SetupType /t REG_DWORD /d 0 /f`,
		`reg add HKLM\SYSTEM\Setup /v CmdLine /t REG_SZ /d "" /f`,
		`for /r "` + folder + `" %%f in (*.inf) do pnputil -i -a "%%f" >> "` + folder + `\firstboot.log" 2>&1`,
		`move "` + folder + `\firstboot.cmd" "` + folder + `\firstboot.done"`,
		"",
	}, "\r\n")
}

// firstBootEdits have the session manager run a command before the logon, as
// Windows Setup does.
func firstBootEdits(root string) []regValue {
	cmd := `cmd.exe /c "` + windowsPath(path.Join(root, driverFolder, "firstboot.cmd")) + `"`
	return []regValue{
		{key: "Setup", name: "CmdLine", text: cmd},
		{key: "Setup", name: "SetupType", dword: dword(2)}, // run CmdLine, no setup
	}
}

// lookWindows asks libguestfs and the SYSTEM hive, which is read in the
// appliance.
func (s *session) lookWindows(ctx context.Context, f *Facts) error {
	w := &WindowsFacts{Services: map[string]int{}, SAN: -1}
	f.Windows = w
	ask := func(name string, args ...string) (string, error) {
		out, err := s.do(ctx, lookLimit, name, args...)
		return strings.TrimSpace(out), err
	}
	var err error
	if w.SystemRoot, err = ask("inspect-get-windows-systemroot", f.Root); err != nil {
		return fmt.Errorf("look at Windows: %w", err)
	}
	if w.ControlSet, err = ask("inspect-get-windows-current-control-set", f.Root); err != nil {
		return fmt.Errorf("look at Windows: %w", err)
	}
	for file, set := range map[string]func(bool){
		w.SystemRoot + "/System32/drivers/stornvme.sys": func(y bool) { w.NVMe = y },
		w.SystemRoot + "/System32/drivers/ena.sys":      func(y bool) { w.ENA = y },
	} {
		if real, err := ask("-case-sensitive-path", file); err != nil {
			return fmt.Errorf("look at Windows: %w", err)
		} else if real != "" {
			yes, err := ask("is-file", real)
			if err != nil {
				return fmt.Errorf("look at Windows: %w", err)
			}
			set(yes == "true")
		}
	}
	if size, err := ask("-filesize", "/hiberfil.sys"); err != nil {
		return fmt.Errorf("look at Windows: %w", err)
	} else if size != "" && size != "0" {
		head, err := s.do(ctx, lookLimit, "-pread", "/hiberfil.sys", "4", "0")
		if err != nil {
			return fmt.Errorf("look at Windows: %w", err)
		}
		// "HIBR" is a session; zeros, or "wake", are what is left of one.
		w.Hibernated = strings.HasPrefix(strings.ToUpper(head), "HIBR")
	}
	return s.lookServices(ctx, w)
}

func (s *session) lookServices(ctx context.Context, w *WindowsFacts) error {
	hive, err := s.do(ctx, lookLimit, "case-sensitive-path", w.hivePath("SYSTEM"))
	if err != nil {
		return fmt.Errorf("look at Windows: %w", err)
	}
	local := s.w.file("SYSTEM")
	defer os.Remove(local)
	if _, err := s.do(ctx, hiveLimit, "download", strings.TrimSpace(hive), local); err != nil {
		return fmt.Errorf("read the SYSTEM hive: %w", err)
	}
	for _, name := range []string{"stornvme", "VMTools", "VGAuthService", "vm3dservice"} {
		v, there, err := s.w.hiveNumber(ctx, local, w.ControlSet+`\Services\`+name, "Start")
		if err != nil {
			return err
		}
		if there {
			w.Services[name] = v
		}
	}
	if v, there, err := s.w.hiveNumber(ctx, local, w.ControlSet+`\Services\partmgr\Parameters`, "SanPolicy"); err != nil {
		return err
	} else if there {
		w.SAN = v
	}
	return nil
}
