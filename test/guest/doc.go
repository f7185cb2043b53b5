// Package guest builds Debian guests as VMware had them, whose initramfs knows
// VMware's drivers only, and boots disks under QEMU in software emulation.
//
// Guests are built once by the scripts beside this file, which need root, a
// Debian mirror and the programs that [Need] names, and are kept in the folder
// that SNAPFERRY_GUEST_CACHE names, or else in the user's cache.
package guest
