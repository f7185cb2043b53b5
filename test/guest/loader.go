package guest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Source is the guest's image as its own machine boots it, in a copy in dir
// where that has to differ: VMware's UEFI variables name the loader, QEMU's here
// are fresh, so that the loader is put where UEFI looks without them.
func Source(ctx context.Context, kind Kind, image, dir string) (string, error) {
	if kind != UEFI {
		return image, nil
	}
	own, loader := filepath.Join(dir, "source.raw"), filepath.Join(dir, "grubx64.efi")
	esp := own + "@@1048576" // image.sh: the first partition begins at 1 MiB
	for _, args := range [][]string{
		{"cp", "--sparse=always", image, own},
		{"mcopy", "-n", "-i", esp, "::/EFI/debian/grubx64.efi", loader},
		{"mmd", "-i", esp, "::/EFI/BOOT"},
		{"mcopy", "-i", esp, loader, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("put the loader of guest %s in place: %s: %w: %s", kind, args[0], err, last(string(out), 1024))
		}
	}
	return own, nil
}
