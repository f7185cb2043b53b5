package vcenter

import (
	"errors"
	"os"
	"syscall"
)

// punch makes a hole in a file of the same size: what is there reads as zeroes.
func punch(f *os.File, off, n int64) error {
	const keepSize, punchHole = 1, 2 // linux/falloc.h
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Fallocate(int(fd), keepSize|punchHole, off, n) }); err != nil {
		return err
	}
	if errors.Is(failed, syscall.EOPNOTSUPP) {
		return errors.ErrUnsupported
	}
	return failed
}
