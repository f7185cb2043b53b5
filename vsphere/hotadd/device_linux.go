//go:build linux && (amd64 || arm64)

package hotadd

import (
	"os"
	"syscall"
)

const directFlag = syscall.O_DIRECT

// From the kernel's headers: fcntl.h, fs.h.
const (
	adviseDontNeed = 4
	blkFlushBuf    = 0x1261
)

// forget drops a range from the page cache.
func forget(f *os.File, off, n int64) {
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(off), uintptr(n), adviseDontNeed, 0, 0) // it is advice
}

// flush drops a block device's buffers, as blockdev --flushbufs does. Nothing
// is lost where the caller may not: the device was only read.
func flush(f *os.File) {
	if st, err := f.Stat(); err == nil && st.Mode()&os.ModeDevice != 0 {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), blkFlushBuf, 0)
	}
}
