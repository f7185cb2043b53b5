#!/bin/sh
# image.sh KIND ROOTFS.tar OUT.raw: a bootable disk. As root. What needs a device
# is done inside the libguestfs appliance: the host needs neither device mapper
# nor loop devices. ext4 is filled here, since the appliance takes a minute for
# what takes seconds without emulation.
set -eu
kind=$1 tar=$2 out=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/guest-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
img=$work/disk.raw
export PATH="$PATH:/usr/sbin:/sbin"
# ext4 UUID SECTOR KIB: a file system with the guest in it at a place of the disk.
ext4() {
	mkdir "$work/root"
	tar -C "$work/root" -xf "$tar" --numeric-owner --xattrs --xattrs-include='*'
	printf '%s\n' "$fstab" > "$work/root/etc/fstab"
	mke2fs -q -F -t ext4 -U "$1" -d "$work/root" -E "offset=$(($2 * 512))" "$img" "$3k"
	rm -rf "$work/root"
}
u=11111111-2222-3333-4444-55555555555
# The loader's disk is found by its file system: libguestfs calls it /dev/sda,
# and the kernel sometimes otherwise.
case $kind in
bios)
	truncate -s 1G "$img"
	# It names the device, as old guests do: conversion is to put that right.
	fstab='/dev/sda1 / ext4 errors=remount-ro 0 1'
	ext4 ${u}1 2048 $((1024 * 1023))
	layout="part-init /dev/sda mbr
part-add /dev/sda p 2048 -1
part-set-bootable /dev/sda 1 true
mount /dev/sda1 /"
	loader='sh "part=$(blkid -U '${u}1') && grub-install --target=i386-pc ${part%1}"'
	;;
uefi)
	truncate -s 1152M "$img"
	fstab="UUID=${u}2 / ext4 errors=remount-ro 0 1
/dev/sda1 /boot/efi vfat umask=0077 0 1"
	ext4 ${u}2 133120 $((1024 * (1152 - 65 - 1)))
	layout="part-init /dev/sda gpt
part-add /dev/sda p 2048 133119
part-add /dev/sda p 133120 -2048
part-set-gpt-type /dev/sda 1 C12A7328-F81F-11D2-BA4B-00A0C93EC93B
mkfs vfat /dev/sda1
mount /dev/sda2 /
mkdir-p /boot/efi
mount /dev/sda1 /boot/efi"
	loader='command "grub-install --target=x86_64-efi --efi-directory=/boot/efi --no-nvram"'
	;;
lvm)
	truncate -s 2G "$img"
	layout="part-init /dev/sda mbr
part-add /dev/sda p 2048 526335
part-add /dev/sda p 526336 -2048
part-set-bootable /dev/sda 1 true
part-set-mbr-id /dev/sda 2 0x8e
mkfs ext4 /dev/sda1
set-uuid /dev/sda1 ${u}3
pvcreate /dev/sda2
vgcreate vg0 /dev/sda2
lvcreate swap vg0 128
lvcreate-free root vg0 100
mkswap /dev/vg0/swap
mkfs xfs /dev/vg0/root
mount /dev/vg0/root /
mkdir /boot
mount /dev/sda1 /boot
tar-in $tar /
upload $work/fstab /etc/fstab"
	fstab='/dev/mapper/vg0-root / xfs defaults 0 0
/dev/sda1 /boot ext4 defaults 0 2
/dev/mapper/vg0-swap none swap sw 0 0'
	loader='sh "part=$(blkid -U '${u}3') && grub-install --target=i386-pc ${part%1}"'
	;;
*) echo "image.sh: no guest is called $kind" >&2; exit 2 ;;
esac
printf '%s\n' "$fstab" > "$work/fstab"
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg
guestfish --format=raw -a "$img" <<G
run
$layout
$loader
command "update-grub"
umount-all
G
mv "$img" "$out"
