package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// isJournal reports whether w is the stream that the journal reads. systemd
// says which one that is, as device and inode (systemd.exec(5)): a daemon that
// was started from another unit's shell inherits the variable, but not the
// stream.
func isJournal(w io.Writer, stream string) bool {
	f, ok := w.(*os.File)
	if !ok || stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// priority is a level as sd-daemon(3) has it at the beginning of a line; the
// journal takes it away.
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "<3>"
	case l >= slog.LevelWarn:
		return "<4>"
	case l >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}
