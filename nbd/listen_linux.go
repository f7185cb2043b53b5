package nbd

import "syscall"

// ownerOnly sets the mode that the socket's file will be created with, so that
// there is no moment at which others could connect. Linux takes it from the
// socket (unix_bind in net/unix/af_unix.c).
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); cerr != nil {
		return cerr
	}
	return err
}
