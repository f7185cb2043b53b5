package convert

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// hiveNumber reads a REG_DWORD of a hive's file.
func (w *workdir) hiveNumber(ctx context.Context, hive, key, name string) (v int, there bool, err error) {
	out, err := w.run(ctx, hiveLimit, "hivexregedit", "--export", hive, key)
	if err != nil {
		if strings.Contains(err.Error(), "not found") {
			return 0, false, nil
		}
		return 0, false, fmt.Errorf("read %s of the registry: %w", key, err)
	}
	own := false
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "[") {
			own = strings.EqualFold(line, `[\`+key+"]") // not a key below it
			continue
		}
		value, ok := strings.CutPrefix(line, strconv.Quote(name)+"=dword:")
		if !ok || !own {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 32)
		if err != nil {
			return 0, false, fmt.Errorf("read %s of %s of the registry: %w", name, key, err)
		}
		return int(n), true, nil
	}
	return 0, false, nil
}

// mergeHive changes a hive's file. hivexregedit works on a file of the host:
// libguestfs' own virt-win-reg does the same. It is a parser of what the guest
// wrote, so it runs as any other program here: without our environment, within
// a time.
func (w *workdir) mergeHive(ctx context.Context, hive, name, reg string) error {
	edits := w.file("edits.reg")
	if err := os.WriteFile(edits, []byte(reg), 0o600); err != nil {
		return fmt.Errorf("write the registry edits: %w", err)
	}
	defer os.Remove(edits)
	_, err := w.run(ctx, hiveLimit, "hivexregedit", "--merge", "--prefix", `HKEY_LOCAL_MACHINE\`+name, hive, edits)
	if err != nil {
		return fmt.Errorf("change the hive %s: %w", name, err)
	}
	return nil
}
