package main

import "syscall"

// harden keeps passwords and session tokens, which are in memory, out of core
// dumps, and other processes of the same user from attaching. Where the kernel
// refuses, there is nothing better to do than to go on.
func harden() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
}
