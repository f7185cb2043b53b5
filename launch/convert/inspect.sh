# Runs with the guest's own shell inside the libguestfs appliance, the guest's
# file systems being read-only. Prints facts, one a line: "@name value"; a file
# as "@file PATH" and its lines behind "|".
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C TMPDIR=/var/tmp
say() { printf '@%s %s\n' "$1" "$2"; }
show() {
	[ -f "$1" ] && [ -r "$1" ] || return 0
	printf '@file %s\n' "$1"
	head -c 65536 "$1" | sed 's/^/|/'
	echo
}
# Of a connection only what tells its kind: it may hold passwords.
kind() {
	[ -f "$1" ] || return 0
	printf '@file %s\n' "$1"
	grep -E '^\[|^ *(type|method|interface-name|mac-address|autoconnect) *=' "$1" | sed 's/^/|/'
}
for f in /etc/fstab /etc/crypttab /etc/default/grub /etc/initramfs-tools/modules /etc/initramfs-tools/initramfs.conf \
	/etc/initramfs-tools/conf.d/* /etc/dracut.conf.d/99-ec2.conf /etc/mkinitcpio.conf /etc/netplan/*.yaml \
	/etc/systemd/network/* /etc/network/interfaces /etc/network/interfaces.d/* /etc/sysconfig/network-scripts/ifcfg-* \
	/etc/sysconfig/network/ifcfg-* /etc/selinux/config /boot/loader/entries/*.conf /etc/cloud/cloud-init.disabled; do
	show "$f"
done
for f in /etc/NetworkManager/system-connections/*; do kind "$f"; done
for f in /etc/udev/rules.d/*; do
	case $f in
	*persistent-net.rules) show "$f" ;;
	*) grep -qiE '(ATTR|SYSFS)\{address\}' "$f" 2>/dev/null && show "$f" ;;
	esac
done
for u in systemd-networkd NetworkManager networking network wicked open-vm-tools vmtoolsd vgauthd vmware-tools; do
	for l in /etc/systemd/system/*.wants/$u.service /etc/systemd/system/*.requires/$u.service /etc/rc[2-5].d/S??$u; do
		[ -L "$l" ] || [ -e "$l" ] || continue
		say unit "$u"
		break
	done
done
for t in update-initramfs dracut mkinitcpio lsinitramfs lsinitrd lsinitcpio update-grub grub2-mkconfig grub-mkconfig \
	systemctl ifup dhclient dhcpcd udhcpc cloud-init; do
	command -v $t >/dev/null 2>&1 && say tool $t
done
for g in /boot/grub/grub.cfg /boot/grub2/grub.cfg /boot/efi/EFI/*/grub.cfg; do
	[ -f "$g" ] || continue
	grep -q '^[[:space:]]*linux' "$g" || continue
	say grub "$g"
	grep -E '^[[:space:]]*linux(16|efi)?[[:space:]]' "$g" | sed 's/^[[:space:]]*/@linux /'
done
grep -h '^options ' /boot/loader/entries/*.conf 2>/dev/null | sed 's/^/@linux /'
for e in /boot/efi /efi /boot; do
	[ -d "$e/EFI" ] || continue
	find "$e/EFI" -type f -iname '*.efi' | sed 's/^/@efi /'
	break
done
for m in / /boot; do
	df -Pk "$m" 2>/dev/null | awk -v m="$m" 'NR == 2 { print "@free " $4 " " m }'
done
module() {
	if grep -q "/$2\.ko" "$1/modules.builtin" 2>/dev/null; then
		echo builtin
	elif grep -qE "(^|/)$2\.ko(\.[a-z0-9]+)?:" "$1/modules.dep" 2>/dev/null; then
		echo module
	else
		echo absent
	fi
}
list() {
	for t in lsinitramfs lsinitrd lsinitcpio; do
		command -v $t >/dev/null 2>&1 || continue
		$t "$1" 2>/dev/null
		return
	done
}
for d in /lib/modules/*; do
	k=${d##*/}
	base=$(cat "$d/pkgbase" 2>/dev/null)
	image=
	for f in "/boot/vmlinuz-$k" "/boot/vmlinux-$k" "/boot/vmlinuz-${base:-/none}" "$d/vmlinuz"; do
		[ -f "$f" ] && image=$f && break
	done
	[ -n "$image" ] || continue
	ram=
	for f in "/boot/initrd.img-$k" "/boot/initramfs-$k.img" "/boot/initrd-$k" "/boot/initramfs-${base:-/none}.img"; do
		[ -f "$f" ] && ram=$f && break
	done
	say kernel "$k"
	say image "$image"
	[ -n "$ram" ] && say initramfs "$ram"
	say nvme "$(module "$d" nvme)"
	say ena "$(module "$d" ena)"
	[ -n "$ram" ] || continue
	held=$(list "$ram" | awk -F/ '/\.ko(\.[a-z0-9]+)?$/ { n++; sub(/\.ko.*/, "", $NF); if ($NF == "nvme" || $NF == "ena") print $NF } END { if (n) print "listed" }')
	for h in $held; do say holds "$h"; done
done
say done yes
