// Package migrate moves real guests, end to end. A Debian guest whose initramfs
// knows VMware's drivers only runs under QEMU from the live disk of a VM of the
// lab, and writes to a database and files all the time. The snapferry binary
// seeds it, makes deltas while it writes, cuts it over; what it launched is
// attached to another QEMU as NVMe, boots, and has to have every write that the
// guest had been told is committed.
//
// Guests take minutes in software emulation, root to build, and a Debian mirror:
// nothing here runs unless SNAPFERRY_GUESTS=1 (a BIOS and a UEFI guest; or names,
// as in SNAPFERRY_GUESTS=lvm) or SNAPFERRY_LONG=1 (all, with more of everything)
// is set. "make guests" does so.
package migrate
