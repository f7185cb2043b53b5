// Package convert makes the guest of a recovery point ready for EC2.
//
// A VMware guest knows its own disk controller, its own NIC and its own console,
// and often no other. Conversion is one more replication: the boot disk of the
// point is served over NBD (base.go, blocks are read on demand from the
// snapshot), a qcow2 overlay takes what changes (overlay.go), the libguestfs
// appliance looks at the guest and changes it (session.go, inspect.go, apply.go),
// and the overlay's changed blocks go into a child of the point's snapshot
// through the pipeline of package transfer. The replicated chain is never
// touched, and a guest that is ready already is left alone: the point's own
// snapshot is launched then.
//
// What is to be changed is a pure decision, [Decide]: [Facts] in, [Plan] out.
// A dry run stops there.
//
// Programs of the guest (update-initramfs, dracut, update-grub) run inside the
// appliance, a virtual machine without a network of its own, never on the
// connector. The programs of the host that are used are guestfish, qemu-img,
// qemu-nbd and, for Windows guests, hivexregedit.
//
// What was tried: Debian guests with initramfs-tools and dracut, BIOS and UEFI,
// ext4 and xfs on LVM. What was not tried on a real guest: Windows, the Red Hat
// and SUSE families, Arch. Their plans carry a doubt that says so.
package convert
